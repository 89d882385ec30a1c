//! Locks, slow commits, failovers and callers that hang up: bounded, and told truly.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use relaytrace_domain::{Clock, Error};
use relaytrace_service::http::{Routes, common_routes};
use relaytrace_store::{MIGRATOR, Store};
use relaytrace_testing::{TestAgent, TestApp, until, until_blocked, until_none_blocked};
use serde_json::json;
use sqlx::PgPool;

/// Connections of a [`TestApp`].
const POOL: usize = 40;

fn routes() -> Routes {
    ingest::router().merge(decide::router()).merge(poll::router()).merge(common_routes())
}

async fn app(owner: &PgPool) -> (Arc<TestApp>, Arc<TestAgent>) {
    let app = TestApp::new(owner, routes());
    let agent = app.agent("a").await;
    (Arc::new(app), Arc::new(agent))
}

fn poll_path(query: &str) -> String {
    format!("/v1/agents/a/decisions/poll?{query}")
}

async fn poll(app: &TestApp, agent: &TestAgent) -> (u16, usize) {
    let answer = app.get(&poll_path(""), &agent.token()).await;
    let leased = if answer.status == 200 { answer.json()["decisions"].as_array().map_or(0, Vec::len) } else { 0 };
    (answer.status.as_u16(), leased)
}

async fn decide(app: &TestApp, id: &str) -> u16 {
    let body = json!({"decision": "approve", "reason": "fine"});
    let path = format!("/v1/hitl/requests/{id}/decision");
    app.post(&path, &app.operator("maria"), &body).await.status.as_u16()
}

/// The sessions of the application, by the statements that they ran last.
async fn sessions(owner: &PgPool) -> HashSet<i32> {
    let query = "SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '/* relaytrace: %'";
    sqlx::query_scalar::<_, i32>(query).fetch_all(owner).await.expect("pids").into_iter().collect()
}

async fn count(owner: &PgPool, table: &str) -> i64 {
    let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(query).fetch_one(owner).await.expect("a count")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_lock_on_deliveries_stops_polls_and_nothing_else(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    let mut lock = owner.begin().await.unwrap();
    sqlx::query("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let pollers = (0..3 * POOL).map(|_| {
        let (app, agent) = (app.clone(), agent.clone());
        tokio::spawn(async move {
            loop {
                poll(&app, &agent).await;
            }
        })
    });
    let pollers: Vec<_> = pollers.collect();
    // As long as three statements at their limit, during which submissions go on.
    let mut most = 0;
    let started = tokio::time::Instant::now();
    let mut number = 0;
    while started.elapsed() < Duration::from_secs(5) {
        number += 1;
        app.submit(&agent, &format!("k{number}")).await;
        most = most.max(sessions(&owner).await.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(most <= 2 * POOL, "{most} sessions");
    lock.rollback().await.unwrap();
    pollers.iter().for_each(tokio::task::JoinHandle::abort);
    until(async || poll(&app, &agent).await.0 == 200).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_that_was_answered_unavailable_is_not_made_later(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    let mut ids = Vec::new();
    for number in 0..24 {
        ids.push(app.submit(&agent, &format!("k{number}")).await);
    }
    // With statements that are prepared: what waits for the lock is their execution.
    let prepared = app.submit(&agent, "prepared").await;
    assert_eq!(decide(&app, &prepared).await, 201);
    let mut lock = owner.begin().await.unwrap();
    sqlx::query("LOCK TABLE hitl_requests IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let answers = join_all(ids.iter().map(|id| decide(&app, id))).await;
    assert!(answers.iter().all(|status| *status == 503), "{answers:?}");
    lock.rollback().await.unwrap();
    until_none_blocked(&owner).await;
    // A statement that was granted the lock by now would be through it when this one is.
    let mut lock = owner.begin().await.unwrap();
    sqlx::query("LOCK TABLE hitl_requests IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    lock.commit().await.unwrap();
    assert_eq!(count(&owner, "hitl_decisions").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_whose_commit_takes_long_is_delivered_soon_after_it(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    let id = app.submit(&agent, "k").await;
    assert_eq!(poll(&app, &agent).await, (200, 0));
    // A deferred trigger runs in the commit, where no time-out of the server reaches.
    sqlx::raw_sql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            WHILE NOT pg_try_advisory_xact_lock(1) LOOP PERFORM pg_sleep(0.01); END LOOP;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON deliveries DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    .execute(&owner)
    .await
    .unwrap();
    let mut gate = owner.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(1)").execute(&mut *gate).await.unwrap();
    assert_eq!(decide(&app, &id).await, 503);
    for _ in 0..10 {
        app.advance(1.0);
        assert_eq!(poll(&app, &agent).await, (200, 0));
    }
    sqlx::query("SELECT pg_advisory_unlock(1)").execute(&mut *gate).await.unwrap();
    until(async || count(&owner, "hitl_decisions").await == 1).await;
    // The clock stands still: no hint grows old.
    until(async || poll(&app, &agent).await == (200, 1)).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_poll_that_hangs_up_during_its_lease_costs_no_session_and_hides_nothing(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    let id = app.submit(&agent, "k").await;
    // With a statement that is prepared: what waits for the lock is its execution.
    assert_eq!(poll(&app, &agent).await, (200, 0));
    assert_eq!(decide(&app, &id).await, 201);
    let before = sessions(&owner).await;
    let mut lock = owner.begin().await.unwrap();
    sqlx::query("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let waiting = tokio::spawn({
        let (app, agent) = (app.clone(), agent.clone());
        async move { poll(&app, &agent).await }
    });
    until_blocked(&owner, 1).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    lock.rollback().await.unwrap();
    // The clock stands still: the lease that nobody got would never end.
    until(async || poll(&app, &agent).await == (200, 1)).await;

    let mut seen = sessions(&owner).await;
    for number in 0..200 {
        drop(tokio::time::timeout(Duration::from_micros(number * 20), poll(&app, &agent)).await);
        seen.extend(sessions(&owner).await);
    }
    let new = seen.difference(&before).count();
    assert!(new < 20, "{new} sessions for 200 callers that hung up one after another");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_database_that_became_read_only_is_unavailable_until_it_takes_writes(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    app.submit(&agent, "before").await;
    let settle = async |command: &str, ends_sessions: bool| {
        let database: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&owner).await.unwrap();
        let command = command.replace("DATABASE", &format!("DATABASE \"{database}\""));
        let mut owner = owner.acquire().await.unwrap();
        // The owner's own sessions would be read-only, too.
        sqlx::query("SET default_transaction_read_only = off").execute(&mut *owner).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(command)).execute(&mut *owner).await.unwrap();
        if ends_sessions {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
            sqlx::query(end).execute(&mut *owner).await.unwrap();
        }
    };
    settle("ALTER DATABASE SET default_transaction_read_only = on", true).await;
    let submitted = async |key: &str| {
        let answer = app.post("/v1/hitl/requests", &agent.token(), &agent.envelope(key)).await;
        (answer.status.as_u16(), answer.json()["retryable"].as_bool())
    };
    until(async || submitted("k").await == (503, Some(true))).await;
    assert_eq!(app.get("/readyz", "").await.status, 503);
    settle("ALTER DATABASE RESET default_transaction_read_only", false).await;
    assert_eq!(submitted("k").await.0, 201, "no session from before is kept");
    assert_eq!(app.get("/readyz", "").await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_table_that_changed_under_a_prepared_statement_fails_no_call(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    let id = app.submit(&agent, "k").await;
    let path = format!("/v1/agents/a/requests/{id}");
    assert_eq!(app.get(&path, &agent.token()).await.status, 200);
    sqlx::query("ALTER TABLE hitl_requests ALTER COLUMN status TYPE varchar(20)").execute(&owner).await.unwrap();
    assert_eq!(app.get(&path, &agent.token()).await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_server_that_refuses_the_connection_is_away(owner: PgPool) {
    let options = owner.connect_options();
    let missing_database = (*options).clone().database("there_is_none");
    let missing_role = (*options).clone().username("there_is_none");
    let refused_role = (*options).clone().options([("role", "there_is_none")]);
    for refused in [missing_database, missing_role, refused_role] {
        let outcome = Store::connect_lazily(refused, 1, Clock::system()).can_write().await;
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_clock_that_was_set_back_hides_no_decision(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    let id = app.submit(&agent, "k").await;
    // A failover to a server whose clock is behind by more than the request has time.
    app.advance(-86_400.0);
    assert_eq!(decide(&app, &id).await, 201);
    assert_eq!(poll(&app, &agent).await, (200, 1));
}
