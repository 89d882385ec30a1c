//! Decisions that wait for one another: written together, answered each by itself.

use futures_util::future::{join_all, join3};
use relaytrace_store::{MIGRATOR, WRITERS};
use relaytrace_testing::{TestApp, until, until_blocked};
use serde_json::{Value, json};
use sqlx::PgPool;

async fn decide(app: &TestApp, operator: &str, id: &str, body: &Value) -> (u16, Value) {
    let path = format!("/v1/hitl/requests/{id}/decision");
    let answer = app.post(&path, &app.operator(operator), body).await;
    (answer.status.as_u16(), answer.json())
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_waits_is_written_together_and_answered_each_by_itself(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()));
    let (agent, other) = (app.agent("a").await, app.agent("b").await);
    let expired = app.submit(&agent, "expired").await;
    app.advance(4.0 * 3_600.0);
    let mut blocked = Vec::new();
    for number in 0..WRITERS {
        blocked.push(app.submit(&agent, &format!("blocked-{number}")).await);
    }
    let (approved, rejected) = (app.submit(&agent, "approved").await, app.submit(&other, "rejected").await);
    let (twice, mismatch) = (app.submit(&agent, "twice").await, app.submit(&agent, "mismatch").await);
    let decided = app.submit(&other, "decided").await;
    // All ask for the same action. Who says which one they saw needs no look at the request before the statement.
    let detail = app.get(&format!("/v1/hitl/requests/{decided}"), &app.operator("maria")).await.json();
    let digest = &detail["action_digest"];
    let approve = json!({"decision": "approve", "action_digest": digest});
    let because = |decision, reason| json!({"decision": decision, "reason": reason, "action_digest": digest});
    assert_eq!(decide(&app, "maria", &decided, &approve).await.0, 201);

    let mut blocking = owner.begin().await.expect("a transaction");
    let lock = "SELECT FROM hitl_requests WHERE client_request_key LIKE 'blocked-%' FOR UPDATE";
    sqlx::query(lock).execute(&mut *blocking).await.expect("locked");
    let blocked = join_all(blocked.iter().enumerate().map(async |(number, id)| {
        until_blocked(&owner, number).await;
        decide(&app, "maria", id, &approve).await
    }));
    let seen = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let together = async {
        until_blocked(&owner, WRITERS).await;
        join_all([
            decide(&app, "maria", &approved, &because("approve", "fine")),
            decide(&app, "jonas", &rejected, &because("reject", "too much")),
            decide(&app, "maria", &twice, &approve),
            decide(&app, "jonas", &twice, &approve),
            decide(&app, "maria", &twice, &approve),
            decide(&app, "maria", &mismatch, &json!({"decision": "approve", "action_digest": seen("0")})),
            decide(&app, "maria", &expired, &approve),
            decide(&app, "jonas", &decided, &approve),
            decide(&app, "maria", "019ab9a0-0000-7000-8000-000000000000", &approve),
        ])
        .await
    };
    let release = async {
        until(async || app.state.store.waiting() == WRITERS + 9).await;
        blocking.rollback().await.expect("released");
    };
    let (blocked, answers, ()) = join3(blocked, together, release).await;
    assert!(blocked.iter().all(|(status, _)| *status == 201));
    let statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [201, 201, 201, 409, 200, 409, 409, 409, 404]);
    let codes = [3, 5, 6, 7, 8].map(|index: usize| answers[index].1["code"].as_str().expect("a code"));
    assert_eq!(codes, ["already-decided", "action-mismatch", "expired", "already-decided", "not-found"]);
    let said = |index: usize| {
        let decision: &Value = &answers[index].1;
        [&decision["outcome"], &decision["decided_by"]["id"], &decision["reason"]]
    };
    assert_eq!(said(0), [&json!("approved"), &json!("maria"), &json!("fine")]);
    assert_eq!(said(1), [&json!("rejected"), &json!("jonas"), &json!("too much")]);
    assert_eq!(said(2), [&json!("approved"), &json!("maria"), &Value::Null]);
    let stored: Vec<(String, Option<String>)> = sqlx::query_as(
        "SELECT d.decided_by_id, d.reason FROM hitl_decisions d JOIN hitl_requests r USING (request_id)
        WHERE r.client_request_key IN ('approved', 'rejected', 'twice') ORDER BY r.client_request_key",
    )
    .fetch_all(&owner)
    .await
    .expect("decisions");
    let stored: Vec<_> = stored.iter().map(|(who, why)| (who.as_str(), why.as_deref())).collect();
    assert_eq!(stored, [("maria", Some("fine")), ("jonas", Some("too much")), ("maria", None)]);
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM approval_chain WHERE kind = 'decided'")
        .fetch_one(&owner)
        .await
        .expect("a count");
    assert_eq!(entries, i64::try_from(WRITERS).expect("few") + 4, "each once");
}
