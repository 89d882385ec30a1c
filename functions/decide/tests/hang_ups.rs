//! Callers that hang up between the commit and the announcement: what follows a commit does not depend on them.

use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestApp, until, until_blocked};
use serde_json::json;
use sqlx::PgPool;

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_event_of_a_decision_whose_caller_hung_up_goes_out(owner: PgPool) {
    let nats = std::env::var("NATS_URL").expect("NATS_URL: run `make test`");
    let app = TestApp::with_nats(&owner, ingest::router().merge(decide::router()), &nats);
    assert!(app.state.events.is_connected().await);
    let agent = app.agent(&format!("gone-{}", app.now().timestamp_micros())).await;
    let id = app.submit(&agent, "k").await;
    until(async || outbox(&owner).await == 0).await;

    let mut blocking = owner.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM hitl_requests FOR UPDATE").execute(&mut *blocking).await.expect("locked");
    let caller = tokio::spawn({
        let (router, operator) = (app.router.clone(), app.operator("maria"));
        async move {
            relaytrace_testing::post(
                router,
                &format!("/v1/hitl/requests/{id}/decision"),
                &operator,
                &json!({"decision": "approve"}),
            )
            .await
        }
    });
    until_blocked(&owner, 1).await;
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    blocking.rollback().await.expect("released");

    let decided = "SELECT count(*) FROM hitl_decisions";
    until(async || sqlx::query_scalar::<_, i64>(decided).fetch_one(&owner).await.expect("a count") == 1).await;
    until(async || outbox(&owner).await == 0).await;
}

async fn outbox(owner: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(owner).await.expect("a count")
}
