//! Envelopes that were erased: what was decided is still shown, exported and delivered.

use std::time::Duration;

use relaytrace_store::{MIGRATOR, erase};
use relaytrace_testing::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_over_is_erased_by_age_and_says_so(owner: PgPool) {
    let routes = admin::router().merge(ingest::router()).merge(decide::router()).merge(poll::router());
    let app = TestApp::new(&owner, routes.merge(replay::router()));
    let (agent, root) = (app.agent("a").await, app.person("root", &["admin"]));
    let mut ids = Vec::new();
    for key in ["over", "delivered", "pending"] {
        ids.push(app.submit(&agent, key).await);
    }
    let approve = json!({"decision": "approve"});
    for id in &ids[..2] {
        let decided = app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), &approve).await;
        assert_eq!(decided.status, 201);
    }
    let poll = async |id: &str| {
        let path = format!("/v1/agents/a/decisions/poll?request_id={id}");
        app.get(&path, &agent.token()).await.json()
    };
    let first = poll(&ids[0]).await["decisions"][0].clone();
    let accepted = json!({"delivery_id": first["delivery_id"], "result": "accepted"});
    let path = format!("/v1/agents/a/decisions/{}/ack", ids[0]);
    assert_eq!(app.post(&path, &agent.token(), &accepted).await.status, 200);

    let options = owner.connect_options();
    let (young, old) = (app.now() - Duration::from_hours(1), app.now() + Duration::from_hours(1));
    assert_eq!(erase(&options, young, false).await.expect("nothing that old"), 0);
    assert_eq!(erase(&options, old, true).await.expect("counted"), 1);
    assert_eq!(erase(&options, old, false).await.expect("erased"), 1);
    assert_eq!(erase(&options, old, false).await.expect("erased before"), 0);
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM request_envelopes").fetch_one(&owner).await.unwrap();
    assert_eq!(kept, 2, "what is pending or still to be delivered stays");
    let log = app.get("/v1/admin/log", &root).await.json();
    assert!(log["items"].as_array().is_some_and(|items| {
        items.iter().any(|item| item["action"] == "envelopes.erased" && item["details"]["count"] == 1)
    }));

    let detail = app.get(&format!("/v1/hitl/requests/{}", ids[0]), &app.operator("maria")).await;
    assert_eq!(detail.status, 200);
    let detail = detail.json();
    assert_eq!((&detail["erased"], &detail["action"], &detail["context"]), (&json!(true), &Value::Null, &Value::Null));
    assert_eq!((&detail["receipt"], &detail["decision"]["outcome"]), (&first["receipt"], &json!("approved")));
    let export = app.get(&format!("/v1/admin/requests/{}/chain", ids[0]), &root).await;
    assert_eq!(export.status, 200);
    assert_eq!((&export.json()["erased"], &export.json()["envelope"]), (&json!(true), &Value::Null));
    assert_eq!(export.json()["entries"].as_array().map(Vec::len), Some(3));

    let order =
        json!({"replay_key": "k", "target": "deliveries", "scope": {"request_ids": [ids[0]]}, "reason": "lost"});
    assert_eq!(app.post("/v1/admin/replay", &root, &order).await.json()["done"], 1);
    let again = poll(&ids[0]).await;
    assert_eq!((&again["has_more"], &again["decisions"][0]["resume"]), (&json!(false), &Value::Null));
    assert_eq!(again["decisions"][0]["receipt"], first["receipt"]);
    let kept = app.get(&format!("/v1/hitl/requests/{}", ids[1]), &app.operator("maria")).await.json();
    assert_eq!((&kept["erased"], &kept["action"]["type"]), (&json!(false), &json!("refund.create")));
}
