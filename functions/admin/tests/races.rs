//! Races of statements: what one waits for is committed while it waits.

use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestAgent, TestApp, until_blocked};
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

fn routes() -> Routes {
    admin::router().merge(ingest::router()).merge(decide::router()).merge(poll::router()).merge(replay::router())
}

async fn open_dead_letters(owner: &PgPool) -> i64 {
    let query = "SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL";
    sqlx::query_scalar(query).fetch_one(owner).await.expect("a count")
}

/// A delivery that its agent has leased.
struct Leased {
    app: TestApp,
    agent: TestAgent,
    request_id: String,
    delivery_id: Value,
}

async fn leased(owner: &PgPool) -> Leased {
    let app = TestApp::new(owner, routes());
    let agent = app.agent("a").await;
    let request_id = app.submit(&agent, "k").await;
    let decision = json!({"decision": "approve", "reason": "fine"});
    let path = format!("/v1/hitl/requests/{request_id}/decision");
    assert_eq!(app.post(&path, &app.operator("maria"), &decision).await.status, 201);
    let polled = app.get("/v1/agents/a/decisions/poll", &agent.token()).await.json();
    let delivery_id = polled["decisions"][0]["delivery_id"].clone();
    Leased { app, agent, request_id, delivery_id }
}

/// The sweep's own statement, not committed yet: the delivery becomes a dead letter.
async fn dead_lettering(leased: &Leased) -> Transaction<'static, Postgres> {
    let mut sweep = leased.app.owner.begin().await.expect("a transaction");
    let late = leased.app.now() + std::time::Duration::from_hours(48);
    let swept = sqlx::query(include_str!("../../../shared/store/sql/dead_letter_exhausted.sql"))
        .bind(late)
        .bind(10_i64)
        .bind(20_i32)
        .bind(None::<Uuid>)
        .fetch_all(&mut *sweep)
        .await
        .expect("a sweep");
    assert_eq!(swept.len(), 1);
    assert_eq!(swept[0].try_get::<String, _>("kind").expect("a kind"), "dead_lettered");
    sweep
}

/// The answer to a call that comes while the delivery becomes a dead letter, and waits for it.
async fn behind_a_dead_lettering(leased: &Leased, path: &str, token: &str, body: &Value) -> Answer {
    let sweep = dead_lettering(leased).await;
    let (answer, ()) = tokio::join!(leased.app.post(path, token, body), async {
        until_blocked(&leased.app.owner, 1).await;
        sweep.commit().await.expect("a commit");
    });
    answer
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn accepted_behind_a_dead_lettering_leaves_no_open_dead_letter(owner: PgPool) {
    let leased = leased(&owner).await;
    let said = json!({"delivery_id": leased.delivery_id, "result": "accepted"});
    let path = format!("/v1/agents/a/decisions/{}/ack", leased.request_id);
    let answer = behind_a_dead_lettering(&leased, &path, &leased.agent.token(), &said).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (200, &json!("acknowledged")));
    assert_eq!(open_dead_letters(&owner).await, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_use_behind_a_dead_lettering_leaves_no_open_dead_letter(owner: PgPool) {
    let leased = leased(&owner).await;
    let path = format!("/v1/hitl/requests/{}", leased.request_id);
    let detail = leased.app.get(&path, &leased.app.operator("maria")).await.json();
    let used = json!({"consume_key": "0123456789abcdef", "action_digest": detail["action_digest"]});
    let path = format!("/v1/agents/a/requests/{}/consume", leased.request_id);
    let answer = behind_a_dead_lettering(&leased, &path, &leased.agent.token(), &used).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["repeated"]), (200, &json!(false)));
    assert_eq!(open_dead_letters(&owner).await, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_sent_out_again_behind_a_dead_lettering_may_fail_once_more(owner: PgPool) {
    let root = |leased: &Leased| leased.app.person("root", &["admin"]);
    let requeue = |leased: &Leased| {
        (
            format!("/v1/admin/requests/{}/disposition", leased.request_id),
            json!({"action": "requeue", "reason": "the agent is back"}),
        )
    };
    let replay = |leased: &Leased| {
        let order = json!({"replay_key": "k", "target": "deliveries", "reason": "the agent is back",
            "scope": {"request_ids": [leased.request_id]}});
        ("/v1/admin/replay".to_owned(), order)
    };
    let mut leased = leased(&owner).await;
    for call in [&requeue as &dyn Fn(&Leased) -> (String, Value), &replay] {
        let (path, body) = call(&leased);
        let answer = behind_a_dead_lettering(&leased, &path, &root(&leased), &body).await;
        assert!(answer.status.is_success(), "{path}: {}", String::from_utf8_lossy(&answer.bytes));
        assert_eq!(open_dead_letters(&owner).await, 0, "{path}");
        // The same again, for the next call and as the proof that nothing is in its way.
        let polled = leased.app.get("/v1/agents/a/decisions/poll", &leased.agent.token()).await.json();
        leased.delivery_id = polled["decisions"][0]["delivery_id"].clone();
        let failed =
            json!({"delivery_id": leased.delivery_id, "result": "failed", "error": {"code": "no", "message": "no"}});
        let (ack, token) = (format!("/v1/agents/a/decisions/{}/ack", leased.request_id), leased.agent.token());
        let said = leased.app.post(&ack, &token, &failed).await.json();
        assert_eq!(said["state"], "dead_lettered", "{path}");
        assert_eq!(open_dead_letters(&owner).await, 1, "{path}");
        // Another reason: the same words again would be a repetition.
        let (path, mut body) = requeue(&leased);
        body["reason"] = json!("once more");
        assert_eq!(leased.app.post(&path, &root(&leased), &body).await.status, 200);
        let polled = leased.app.get("/v1/agents/a/decisions/poll", &leased.agent.token()).await.json();
        leased.delivery_id = polled["decisions"][0]["delivery_id"].clone();
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_approval_behind_a_reprioritise_counts_what_it_became(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let (agent, root) = (app.agent("a").await, app.person("root", &["admin"]));
    let capped = app.call("PATCH", "/v1/admin/agents/a", &root, &json!({"max_pending": 9, "max_pending_p1": 9})).await;
    assert_eq!(capped.status, 200, "{}", String::from_utf8_lossy(&capped.bytes));
    let id = app.submit(&agent, "k").await;
    // What reprioritising writes, not committed yet.
    let mut other = owner.begin().await.expect("a transaction");
    sqlx::query("UPDATE hitl_requests SET priority = 1").execute(&mut *other).await.expect("an update");
    sqlx::query("UPDATE agent_caps SET pending_p1 = 1").execute(&mut *other).await.expect("an update");
    let (path, decision) = (format!("/v1/hitl/requests/{id}/decision"), json!({"decision": "approve"}));
    let operator = app.operator("maria");
    let (answer, ()) = tokio::join!(app.post(&path, &operator, &decision), async {
        until_blocked(&owner, 1).await;
        other.commit().await.expect("a commit");
    });
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.bytes));
    let left: (i32, i32) =
        sqlx::query_as("SELECT pending, pending_p1 FROM agent_caps").fetch_one(&owner).await.expect("a row");
    assert_eq!(left, (0, 0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_cap_that_is_set_behind_a_submission_counts_it(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let (agent, root) = (app.agent("a").await, app.person("root", &["admin"]));
    // A submission that has looked at the caps, when there were none, and waits for somebody's lock.
    let mut other = owner.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE outbox IN EXCLUSIVE MODE").execute(&mut *other).await.expect("a lock");
    let cap = json!({"max_pending": 1});
    let (id, capped, ()) =
        tokio::join!(app.submit(&agent, "k"), app.call("PATCH", "/v1/admin/agents/a", &root, &cap), async {
            until_blocked(&owner, 1).await;
            other.commit().await.expect("a commit");
        });
    assert_eq!(capped.status, 200, "{}", String::from_utf8_lossy(&capped.bytes));
    let counted: (i32,) = sqlx::query_as("SELECT pending FROM agent_caps").fetch_one(&owner).await.expect("a row");
    assert_eq!(counted.0, 1);
    let refused = app.post("/v1/hitl/requests", &agent.token(), &agent.envelope("another")).await;
    assert_eq!(refused.status, 429);
    let path = format!("/v1/hitl/requests/{id}/decision");
    assert_eq!(app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await.status, 201);
    app.submit(&agent, "another").await;
}
