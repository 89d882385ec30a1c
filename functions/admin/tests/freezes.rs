//! Freezes against a real database and a clock that the test moves.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic as their tests may")]

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use relaytrace_domain::Timestamp;
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestAgent, TestApp, until};
use serde_json::{Value, json};
use sqlx::PgPool;

fn routes() -> Routes {
    admin::router().merge(ingest::router()).merge(decide::router()).merge(poll::router()).merge(timeout_sweep::router())
}

async fn freeze(app: &TestApp, name: &str, mode: &str, seconds: i64) -> Answer {
    let until = Timestamp(app.now() + TimeDelta::seconds(seconds));
    let body = json!({"agent_id": "a", "mode": mode, "until": until, "reason": "stolen"});
    app.call("PUT", &format!("/v1/admin/freezes/{name}"), &app.person("root", &["admin"]), &body).await
}

async fn frozen(app: &TestApp, name: &str, mode: &str, seconds: i64) -> Value {
    let answer = freeze(app, name, mode, seconds).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
    answer.json()
}

/// A new request that is approved: its id and digest.
async fn approved(app: &TestApp, agent: &TestAgent, key: &str) -> (String, Value) {
    let id = app.submit(agent, key).await;
    let path = format!("/v1/hitl/requests/{id}/decision");
    let decided = app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await;
    assert_eq!(decided.status, 201, "{}", String::from_utf8_lossy(&decided.bytes));
    (id, decided.json()["action_digest"].clone())
}

async fn consume(app: &TestApp, agent: &TestAgent, (id, digest): &(String, Value)) -> Answer {
    let body = json!({"consume_key": "k".repeat(16), "action_digest": digest});
    app.post(&format!("/v1/agents/{}/requests/{id}/consume", agent.agent_id), &agent.token(), &body).await
}

async fn sweep(app: &TestApp) -> timeout_sweep::SweepReport {
    timeout_sweep::run_once(app.state.clone()).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn overlapping_sweeps_reject_what_a_stop_covers_once_and_nothing_else(owner: PgPool) {
    const PENDING: u64 = 250;
    let app = TestApp::new(&owner, routes());
    let (agent, other) = (app.agent("a").await, app.agent("b").await);
    join_all((0..PENDING).map(|number| {
        let (app, agent) = (&app, &agent);
        async move { app.submit(agent, &format!("k{number}")).await }
    }))
    .await;
    let theirs = app.submit(&other, "k").await;
    assert_eq!(sweep(&app).await.stopped, 0);
    frozen(&app, "incident", "stop", 600).await;
    let reports = join_all((0..4).map(|_| sweep(&app))).await;
    assert_eq!(reports.iter().map(|report| report.stopped).sum::<u64>(), PENDING);
    let told: Vec<(String, String, String, String, i64)> = sqlx::query_as(
        "SELECT outcome, cause, decided_by_kind, reason, count(*) FROM hitl_decisions GROUP BY 1, 2, 3, 4",
    )
    .fetch_all(&app.owner)
    .await
    .unwrap();
    let expected = ("rejected".into(), "admin".into(), "system".into(), "stolen".into(), PENDING.cast_signed());
    assert_eq!(told, [expected]);
    let detail = app.get(&format!("/v1/hitl/requests/{theirs}"), &app.operator("maria")).await.json();
    assert_eq!(detail["status"], "pending");
    // The administrators' log has the stop and not each of its rejections.
    let logged: i64 = sqlx::query_scalar("SELECT count(*) FROM admin_log WHERE action LIKE 'request.%'")
        .fetch_one(&app.owner)
        .await
        .unwrap();
    assert_eq!(logged, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_stop_that_ends_by_itself_has_revoked_what_was_approved_before_its_end(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let before = approved(&app, &agent, "before").await;
    app.advance(1.0);
    frozen(&app, "incident", "stop", 60).await;
    app.advance(59.999_999);
    assert_eq!(consume(&app, &agent, &before).await.code(), "permit-revoked");
    let refused = app.submit(&agent, "refused").await;
    let seen = app.get(&format!("/v1/hitl/requests/{refused}"), &app.operator("maria")).await.json();
    assert_eq!(seen["you"], json!({"may": ["reject"], "why_not": "frozen"}));
    let path = format!("/v1/hitl/requests/{refused}/decision");
    assert_eq!(app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await.code(), "frozen");
    app.advance(0.000_001);
    assert_eq!(consume(&app, &agent, &before).await.code(), "permit-revoked");
    // It is over: what is still pending is asked as before.
    assert_eq!(sweep(&app).await.stopped, 0);
    assert_eq!(app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await.status, 201);
    let after = approved(&app, &agent, "after").await;
    assert_eq!(consume(&app, &agent, &after).await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hold_ends_to_the_microsecond_and_renews_no_permit(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let (short, long) = (approved(&app, &agent, "short").await, approved(&app, &agent, "long").await);
    frozen(&app, "incident", "hold", 3_599).await;
    app.advance(3_598.999_999);
    assert_eq!(consume(&app, &agent, &short).await.code(), "frozen");
    app.advance(0.000_001);
    assert_eq!(consume(&app, &agent, &short).await.status, 200);
    app.advance(1.0);
    assert_eq!(consume(&app, &agent, &long).await.code(), "permit-expired");
    // Frozen comes before expired.
    frozen(&app, "again", "hold", 60).await;
    assert_eq!(consume(&app, &agent, &long).await.code(), "frozen");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_cannot_be_used_any_more_may_be_accepted_where_consuming_is_required(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let policy = json!({"priority": "P2", "respond_within_seconds": 600, "consume": "required"});
    let root = app.person("root", &["admin"]);
    assert_eq!(app.call("PUT", "/v1/admin/timeout-policies", &root, &policy).await.status, 200);
    let accept = async |id: &str| {
        let path = format!("/v1/agents/a/decisions/{id}/ack");
        app.post(&path, &agent.token(), &json!({"result": "accepted"})).await
    };
    let (stopped, expired) = (approved(&app, &agent, "stopped").await, approved(&app, &agent, "expired").await);
    for (id, _) in [&stopped, &expired] {
        assert_eq!(accept(id).await.code(), "not-consumed");
    }
    app.advance(3_600.0);
    assert_eq!(accept(&expired.0).await.json()["state"], "acknowledged");
    let stopped = approved(&app, &agent, "later").await;
    app.advance(1.0);
    frozen(&app, "hold", "hold", 60).await;
    assert_eq!(accept(&stopped.0).await.code(), "not-consumed");
    frozen(&app, "stop", "stop", 60).await;
    assert_eq!(accept(&stopped.0).await.json()["state"], "acknowledged");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_freeze_waits_for_who_may_write_requests_and_for_nobody_else(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let (id, _) = approved(&app, &agent, "k").await;
    let mut reading = app.owner.begin().await.unwrap();
    for statement in [
        "SELECT count(*) FROM hitl_requests",
        "SELECT count(*) FROM (SELECT FROM hitl_requests FOR UPDATE) r",
        "WITH i AS (INSERT INTO sweep_failures SELECT * FROM sweep_failures WHERE false) SELECT count(*) FROM deliveries",
    ] {
        sqlx::query(statement).execute(&mut *reading).await.unwrap();
    }
    let waited = tokio::time::timeout(Duration::from_secs(1), app.state.store.settle(Duration::from_mins(1))).await;
    waited.expect("it waited for who only reads").unwrap();
    drop(reading);

    let mut writing = app.owner.begin().await.unwrap();
    // Written or not: it might yet be.
    let nothing = "UPDATE hitl_requests SET title = title WHERE request_id = $1 AND false";
    sqlx::query(nothing).bind(id.parse::<uuid::Uuid>().unwrap()).execute(&mut *writing).await.unwrap();
    assert!(app.state.store.settle(Duration::from_millis(200)).await.is_err());
    let begun: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&app.owner).await.unwrap();
    let store = app.state.store.clone();
    let waiting = tokio::spawn(async move { store.settle(Duration::from_mins(1)).await });
    // What begins after the wait has begun is not waited for: it knows of the freeze.
    let looked = "SELECT count(*) > 0 FROM pg_stat_activity
        WHERE query LIKE '/* relaytrace: writers_of_requests */%' AND query_start > $1 AND state = 'idle'
            AND datname = current_database()";
    until(async || sqlx::query_scalar(looked).bind(begun).fetch_one(&app.owner).await.unwrap()).await;
    assert!(!waiting.is_finished());
    let mut later = app.owner.begin().await.unwrap();
    sqlx::query(nothing).bind(id.parse::<uuid::Uuid>().unwrap()).execute(&mut *later).await.unwrap();
    writing.rollback().await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("an end").unwrap().unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_database_takes_no_approval_by_an_administrator_or_an_agent(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id: uuid::Uuid = app.submit(&agent, "k").await.parse().unwrap();
    for cause in ["admin", "agent"] {
        let forged = sqlx::query(
            "INSERT INTO hitl_decisions (request_id, outcome, cause, decided_by_kind, decided_by_id, decided_at, chain_seq)
            VALUES ($1, 'approved', $2, $2, 'x', now(), 1)",
        );
        let error = forged.bind(id).bind(cause).execute(&app.owner).await.unwrap_err();
        let constraint = error.as_database_error().and_then(|error| error.constraint()).map(str::to_owned);
        assert_eq!(constraint.as_deref(), Some("hitl_decisions_approved_by_who_may"), "{cause}");
    }
}
