//! Keys against a real database: what the contract's tests cannot see from outside.

use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestApp, TestKey};
use serde_json::json;
use sqlx::PgPool;

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_response_secret_is_shown_until_the_key_is_first_used_and_is_stored_nowhere(owner: PgPool) {
    let app = TestApp::new(&owner, admin::router());
    let admin = app.person("root", &["admin"]);
    app.post("/v1/admin/agents", &admin, &json!({"agent_id": "a", "name": "A"})).await;
    let key = TestKey::generate();
    let body = json!({"key_id": "k", "alg": "EdDSA", "public_key": key.public_pem()});
    let first = app.post("/v1/admin/agents/a/keys", &admin, &body).await;
    let again = app.post("/v1/admin/agents/a/keys", &admin, &body).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 200));
    assert_eq!(first.json()["response_secret"], again.json()["response_secret"]);

    let now = app.now().timestamp();
    let token = key.token("k", &json!({"iss": "a", "sub": "a", "aud": "relaytrace", "iat": now, "exp": now + 60}));
    assert_eq!(app.get("/v1/no-such-route", &token).await.status, 404);
    assert_eq!(app.post("/v1/admin/agents/a/keys", &admin, &body).await.code(), "conflict");

    let row: String =
        sqlx::query_scalar("SELECT row_to_json(k)::text FROM agent_keys k").fetch_one(&app.owner).await.unwrap();
    assert!(!row.contains(first.json()["response_secret"].as_str().unwrap()));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_disabled_agent_stops_working_within_a_minute_on_routes_that_ask_no_statement(owner: PgPool) {
    let app = TestApp::new(&owner, admin::router());
    let agent = app.agent("a").await;
    assert!(app.get("/v1/no-such-route", &agent.token()).await.headers.contains_key("signature"));
    app.call("PATCH", "/v1/admin/agents/a", &app.person("root", &["admin"]), &json!({"status": "disabled"})).await;
    app.advance(60.0);
    assert!(!app.get("/v1/no-such-route", &agent.token()).await.headers.contains_key("signature"));
}
