//! What fails denies, and what time does to approvals of bridges.

use http::StatusCode;
use relaytrace_service::http::service;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestAgent, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

const HOOK: &str = "/v1/hooks/claude-code";

/// Bridge and decide over a test's database, hooks that are not held, and an agent whose key may do all of it.
async fn start(owner: &PgPool) -> (TestApp, TestAgent) {
    let routes = || bridge::router().merge(decide::router());
    let mut app = TestApp::new(owner, routes());
    let mut state = app.state.clone();
    state.hooks.max_wait_seconds = 0;
    app.router = service(routes(), state);
    let agent = app.agent("harness").await;
    let scopes = "UPDATE agent_keys SET scopes = ARRAY['ask', 'execute', 'hook']";
    sqlx::query(scopes).execute(owner).await.expect("scopes");
    (app, agent)
}

async fn ask(app: &TestApp, agent: &TestAgent, tool_use: &str) -> Answer {
    let call = json!({
        "hook_event_name": "PreToolUse", "session_id": "s", "tool_use_id": tool_use, "tool_name": "Bash",
        "tool_input": {"command": "ls"},
    });
    app.post(HOOK, &agent.token(), &call).await
}

/// What a harness is told: always 200.
fn told(answer: &Answer) -> (String, String, Option<String>) {
    assert_eq!(answer.status, StatusCode::OK);
    let output = answer.json()["hookSpecificOutput"].clone();
    let text = |name: &str| output[name].as_str().expect("a text").to_owned();
    let problem = answer.headers.get("relaytrace-problem").map(|code| code.to_str().expect("a code").to_owned());
    (text("permissionDecision"), text("permissionDecisionReason"), problem)
}

fn denied(answer: &Answer, code: &str) -> String {
    let (decision, reason, problem) = told(answer);
    assert_eq!((decision.as_str(), problem.as_deref()), ("deny", Some(code)), "{reason}");
    reason
}

async fn approve_all(app: &TestApp, owner: &PgPool) {
    let pending = "SELECT request_id::text FROM hitl_requests WHERE status = 'pending'";
    for id in sqlx::query_scalar::<_, String>(pending).fetch_all(owner).await.expect("ids") {
        let path = format!("/v1/hitl/requests/{id}/decision");
        let answer = app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await;
        assert_eq!(answer.status, StatusCode::CREATED);
    }
}

/// For a minute.
async fn freeze(app: &TestApp, owner: &PgPool, mode: &str) {
    let freeze = "INSERT INTO freezes (tenant_id, freeze_id, mode, until, reason, created_at, created_by)
        VALUES ('default', 'f', $1, $2 + interval '1 minute', 'a test', $2, 'a test')";
    sqlx::query(freeze).bind(mode).bind(app.now()).execute(owner).await.expect("a freeze");
}

async fn count(owner: &PgPool, statement: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement.to_owned())).fetch_one(owner).await.expect("a count")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hook_is_denied_while_postgres_is_away(owner: PgPool) {
    let (app, agent) = start(&owner).await;
    assert!(told(&ask(&app, &agent, "t-1").await).1.starts_with("Still waiting"));
    let stranger = app.agent("unknown").await;
    app.state.close();
    denied(&ask(&app, &agent, "t-2").await, "unavailable");
    // Its key cannot be looked up: that is no wrong key.
    denied(&ask(&app, &stranger, "t-3").await, "unavailable");
    let body = json!({"tool": "t", "arguments": {}, "timeout": "1m"});
    let answer = app.post("/aap/v1/requests", &agent.token(), &body).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (StatusCode::BAD_REQUEST, &json!("missing_idempotency_key"))
    );
    let answer = app.get("/aap/v1/requests/0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17", &agent.token()).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable"))
    );
    assert!(answer.headers.contains_key("retry-after"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_approval_that_ran_out_is_over_and_the_next_call_asks_anew(owner: PgPool) {
    let (app, agent) = start(&owner).await;
    ask(&app, &agent, "t-1").await;
    approve_all(&app, &owner).await;
    app.advance(3_601.0);
    assert!(denied(&ask(&app, &agent, "t-2").await, "permit-expired").starts_with("Approved, but too late"));
    assert_eq!(count(&owner, "SELECT count(*) FROM deliveries WHERE state = 'acknowledged'").await, 1);
    assert!(told(&ask(&app, &agent, "t-3").await).1.starts_with("Still waiting"));
    assert_eq!(count(&owner, "SELECT count(*) FROM hitl_requests").await, 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_frozen_runs_when_the_freeze_has_ended(owner: PgPool) {
    let (app, agent) = start(&owner).await;
    ask(&app, &agent, "t-1").await;
    approve_all(&app, &owner).await;
    freeze(&app, &owner, "hold").await;
    assert!(denied(&ask(&app, &agent, "t-2").await, "frozen").starts_with("Approved, but frozen"));
    app.advance(61.0);
    assert_eq!(told(&ask(&app, &agent, "t-3").await).0, "allow");
    assert_eq!(count(&owner, "SELECT count(*) FROM hitl_requests").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_stopped_is_revoked(owner: PgPool) {
    let (app, agent) = start(&owner).await;
    ask(&app, &agent, "t-1").await;
    approve_all(&app, &owner).await;
    freeze(&app, &owner, "stop").await;
    assert!(denied(&ask(&app, &agent, "t-2").await, "permit-revoked").starts_with("Approved, but revoked"));
    assert_eq!(count(&owner, "SELECT count(*) FROM deliveries WHERE state = 'acknowledged'").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_harness_that_never_comes_back_leaves_nothing_behind(owner: PgPool) {
    let (app, agent) = start(&owner).await;
    ask(&app, &agent, "t-1").await;
    app.advance(6.0 * 86_400.0);
    app.state.store.drop_expired_dedupe(100).await.expect("a purge");
    assert_eq!(count(&owner, "SELECT count(*) FROM hook_waits").await, 1);
    app.advance(86_401.0);
    app.state.store.drop_expired_dedupe(100).await.expect("a purge");
    assert_eq!(count(&owner, "SELECT count(*) FROM hook_waits").await, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_aap_approval_that_nobody_used_is_acknowledged_once_it_is_told(owner: PgPool) {
    let (app, agent) = start(&owner).await;
    let body = json!({"tool": "t", "arguments": {}, "timeout": "1m"});
    let request = http::Request::post("/aap/v1/requests")
        .header("authorization", format!("Bearer {}", agent.token()))
        .header("content-type", "application/json")
        .header("idempotency-key", "k");
    let created = app.send(request.body(body.to_string().into()).expect("a request")).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let path = format!("/aap/v1/requests/{}", created.json()["id"].as_str().expect("an id"));
    approve_all(&app, &owner).await;
    let acknowledged = "SELECT count(*) FROM deliveries WHERE state = 'acknowledged' AND named_only";
    let told = async || app.get(&path, &agent.token()).await.json()["status"].clone();
    assert_eq!((told().await, count(&owner, acknowledged).await), (Value::from("approved"), 0));
    app.advance(3_600.0);
    assert_eq!((told().await, count(&owner, acknowledged).await), (Value::from("approved"), 1));
}
