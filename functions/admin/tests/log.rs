//! What administrators did is on record, written with what they did, and cannot be taken back.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic as their tests may")]

use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestApp, TestKey};
use serde_json::{Value, json};
use sqlx::PgPool;

fn routes() -> Routes {
    admin::router().merge(ingest::router()).merge(decide::router()).merge(poll::router()).merge(replay::router())
}

async fn call(app: &TestApp, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = app.call(method, path, &app.person("root", &["admin"]), body).await;
    let body = if answer.bytes.is_empty() { Value::Null } else { answer.json() };
    (answer.status.as_u16(), body)
}

async fn log(app: &TestApp, query: &str) -> Vec<Value> {
    let answer = app.get(&format!("/v1/admin/log?{query}"), &app.person("root", &["admin"])).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
    answer.json()["items"].as_array().unwrap().clone()
}

fn actions(log: &[Value]) -> Vec<&str> {
    log.iter().rev().map(|item| item["action"].as_str().unwrap()).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_administrators_do_is_logged_once_with_who_did_it(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let key = json!({"key_id": "k", "alg": "EdDSA", "public_key": TestKey::generate().public_pem()});
    let policy = json!({"agent_id": "a", "priority": "P2", "respond_within_seconds": 60});
    let replay = json!({"replay_key": "r", "target": "deliveries", "reason": "lost", "dry_run": true,
        "scope": {"dead_letters": true}});
    let mut policy_id = String::new();
    // Each twice: the repetition changes nothing and is not logged.
    for _ in 0..2 {
        call(&app, "POST", "/v1/admin/agents", &json!({"agent_id": "a", "name": "A"})).await;
        app.advance(1.0);
        call(&app, "PATCH", "/v1/admin/agents/a", &json!({"name": "B"})).await;
        app.advance(1.0);
        call(&app, "POST", "/v1/admin/agents/a/keys", &key).await;
        app.advance(1.0);
        let (_, set) = call(&app, "PUT", "/v1/admin/timeout-policies", &policy).await;
        policy_id = set["policy_id"].as_str().unwrap().to_owned();
        app.advance(1.0);
        call(&app, "POST", "/v1/admin/replay", &replay).await;
        app.advance(1.0);
        call(&app, "PATCH", "/v1/admin/agents/a", &json!({"name": "A"})).await;
        app.advance(1.0);
    }
    let path = format!("/v1/admin/timeout-policies/{policy_id}");
    for _ in 0..2 {
        assert_eq!(call(&app, "DELETE", "/v1/admin/agents/a/keys/k", &Value::Null).await.0, 204);
        app.advance(1.0);
        assert_eq!(call(&app, "DELETE", &path, &Value::Null).await.0, 204);
        app.advance(1.0);
    }
    let entries = log(&app, "limit=200").await;
    let logged = actions(&entries);
    let count = |action| logged.iter().filter(|one| **one == action).count();
    for action in ["agent.registered", "key.registered", "key.revoked", "policy.deleted", "replay.ordered"] {
        assert_eq!(count(action), 1, "{action} of {logged:?}");
    }
    assert_eq!(count("agent.changed"), 4, "there and back, twice");
    let deleted = &entries[0];
    assert_eq!((&deleted["action"], &deleted["subject"]), (&json!("policy.deleted"), &json!(policy_id)));
    assert_eq!(deleted["details"]["was"]["respond_within_seconds"], 60, "its history is kept");
    assert_eq!(deleted["actor"], json!({"kind": "admin", "id": "root", "name": "root of the tests"}));
    let secret = key["public_key"].as_str().unwrap();
    assert!(!entries.iter().any(|entry| entry.to_string().contains(secret)));

    for statement in ["UPDATE admin_log SET actor_id = 'eve'", "DELETE FROM admin_log", "TRUNCATE admin_log"] {
        let error = sqlx::query(statement).execute(&owner).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "23001", "{statement}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn dispositions_are_in_the_log_and_what_others_do_is_not(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let (first, second) = (app.submit(&agent, "1").await, app.submit(&agent, "2").await);
    app.advance(1.0);
    let from = app.now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    app.advance(1.0);
    let path = format!("/v1/admin/requests/{first}/disposition");
    for body in [
        json!({"action": "reprioritise", "priority": "P1", "reason": "urgent"}),
        json!({"action": "reject", "reason": "no"}),
        json!({"action": "reject", "reason": "no"}),
    ] {
        assert_eq!(call(&app, "POST", &path, &body).await.0, 200);
        app.advance(1.0);
    }
    let decision = json!({"decision": "approve"});
    let decided = app.post(&format!("/v1/hitl/requests/{second}/decision"), &app.operator("maria"), &decision).await;
    assert_eq!(decided.status, 201);
    let entries = log(&app, &format!("from={from}")).await;
    assert_eq!(actions(&entries), ["request.reprioritised", "request.decided"]);
    assert!(entries.iter().all(|entry| entry["subject"] == json!(first) && entry["actor"]["id"] == "root"));
    assert_eq!(entries[0]["details"]["reason"], "no");
    assert!(log(&app, "actor=eve").await.is_empty());
    assert_eq!(log(&app, &format!("from={from}&to={from}")).await.len(), 0);
    let page = app.get("/v1/admin/log?limit=1", &app.person("root", &["admin"])).await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(log(&app, &format!("limit=1&cursor={cursor}")).await[0]["action"], "request.reprioritised");
    for query in ["from=yesterday", "actor=%00", "actor=", "cursor=x"] {
        let refused = app.get(&format!("/v1/admin/log?{query}"), &app.person("root", &["admin"])).await;
        assert_eq!(refused.status, 422, "{query}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_widest_policies_stay_and_what_never_was_is_not_found(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let (_, listed) = call(&app, "GET", "/v1/admin/timeout-policies", &Value::Null).await;
    let widest = listed["items"][0]["policy_id"].as_str().unwrap();
    let (status, problem) = call(&app, "DELETE", &format!("/v1/admin/timeout-policies/{widest}"), &Value::Null).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    for unknown in ["0190a0a0-0000-7000-8000-000000000000", "x"] {
        let path = format!("/v1/admin/timeout-policies/{unknown}");
        assert_eq!(call(&app, "DELETE", &path, &Value::Null).await.0, 404);
    }
}
