//! Races of statements: what one waits for is committed while it waits.

use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestApp, until_blocked};
use serde_json::json;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

fn routes() -> Routes {
    admin::router().merge(ingest::router()).merge(decide::router()).merge(poll::router())
}

async fn open_dead_letters(owner: &PgPool) -> i64 {
    let query = "SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL";
    sqlx::query_scalar(query).fetch_one(owner).await.expect("a count")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn accepted_behind_a_dead_lettering_leaves_no_open_dead_letter(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = app.submit(&agent, "k").await;
    let decision = json!({"decision": "approve", "reason": "fine"});
    let path = format!("/v1/hitl/requests/{id}/decision");
    assert_eq!(app.post(&path, &app.operator("maria"), &decision).await.status, 201);
    let polled = app.get("/v1/agents/a/decisions/poll", &agent.token()).await.json();
    let delivery_id = polled["decisions"][0]["delivery_id"].clone();
    // The sweep's own statement, not committed yet.
    let mut sweep = owner.begin().await.expect("a transaction");
    let late = app.now() + std::time::Duration::from_hours(48);
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
    let (path, said) =
        (format!("/v1/agents/a/decisions/{id}/ack"), json!({"delivery_id": delivery_id, "result": "accepted"}));
    let token = agent.token();
    let (answer, ()) = tokio::join!(app.post(&path, &token, &said), async {
        until_blocked(&owner, 1).await;
        sweep.commit().await.expect("a commit");
    });
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (200, &json!("acknowledged")));
    assert_eq!(open_dead_letters(&owner).await, 0);
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
