//! Timeout policies against a real database: what applies, and what happens when nobody answers.

use relaytrace_domain::Timestamp;
use relaytrace_service::config::TimeoutRules;
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestAgent, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

fn routes() -> Routes {
    admin::router().merge(ingest::router()).merge(decide::router())
}

fn allowing_auto_approve(owner: &PgPool) -> TestApp {
    let mut app = TestApp::new(owner, routes());
    app.state.timeouts = TimeoutRules { allow_auto_approve: true };
    app.router = relaytrace_service::http::service(routes(), app.state.clone());
    app
}

async fn put(app: &TestApp, policy: &Value) -> relaytrace_testing::Answer {
    app.call("PUT", "/v1/admin/timeout-policies", &app.person("root", &["admin"]), policy).await
}

async fn submit(app: &TestApp, agent: &TestAgent, changes: Value) -> relaytrace_testing::Answer {
    let mut envelope = agent.envelope("k");
    envelope.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
    app.post("/v1/hitl/requests", &agent.token(), &envelope).await
}

async fn accepted(app: &TestApp, agent: &TestAgent, changes: Value) -> String {
    let answer = submit(app, agent, changes).await;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.bytes));
    answer.json()["request_id"].as_str().expect("an id").to_owned()
}

async fn detail(app: &TestApp, request_id: &str) -> Value {
    app.get(&format!("/v1/hitl/requests/{request_id}"), &app.operator("maria")).await.json()
}

async fn sweep(app: &TestApp) -> timeout_sweep::SweepReport {
    timeout_sweep::run_once(app.state.clone()).await.expect("a report")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_defaults_are_listed_and_a_scope_is_set_in_place(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    app.agent("a").await;
    let policy = json!({"agent_id": "a", "priority": "P2", "respond_within_seconds": 60, "on_timeout": "raise"});
    let first = put(&app, &policy).await;
    assert_eq!(first.status, 200, "{}", String::from_utf8_lossy(&first.bytes));
    let mut changed = policy.clone();
    changed["respond_within_seconds"] = 90.into();
    let second = put(&app, &changed).await.json();
    assert_eq!(first.json()["policy_id"], second["policy_id"]);
    assert_eq!((second["respond_within_seconds"].as_i64(), second["updated_by"].as_str()), (Some(90), Some("root")));
    let listed = app.get("/v1/admin/timeout-policies", &app.person("root", &["admin"])).await.json();
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), 4);
    assert_eq!(items[0]["respond_within_seconds"], 900);
    assert_eq!(items[3], second);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_bad_policy_is_refused_with_every_reason(owner: PgPool) {
    let app = allowing_auto_approve(&owner);
    app.agent("a").await;
    for (policy, pointers) in [
        (
            json!({"priority": "P2", "respond_within_seconds": 0, "escalate_after_percent": 100}),
            vec!["/respond_within_seconds", "/escalate_after_percent"],
        ),
        (json!({"priority": "P4", "respond_within_seconds": 1}), vec!["/priority"]),
        (json!({"priority": "P2", "respond_within_seconds": 1, "on_timeout": "guess"}), vec!["/on_timeout"]),
        (
            json!({"priority": "P2", "respond_within_seconds": 1, "on_timeout": "auto_approve", "agent_id": "a"}),
            vec!["/on_timeout"],
        ),
        (
            json!({"priority": "P1", "respond_within_seconds": 1, "on_timeout": "auto_approve", "agent_id": "a",
            "action_type": "x"}),
            vec!["/on_timeout"],
        ),
        (json!({"priority": "P2", "respond_within_seconds": 1, "agent_id": "nobody"}), vec!["/agent_id"]),
    ] {
        let answer = put(&app, &policy).await;
        assert_eq!(answer.status, 422, "{policy}");
        let problem = answer.json();
        let found: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].clone()).collect();
        assert_eq!(found, pointers, "{policy}");
    }
    let operator = app.operator("maria");
    assert_eq!(app.get("/v1/admin/timeout-policies", &operator).await.status, 403);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_most_specific_policy_applies_and_is_recorded(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let scopes = [
        json!({}),
        json!({"action_type": "refund.create"}),
        json!({"agent_id": "a"}),
        json!({"agent_id": "a", "action_type": "refund.create"}),
    ];
    for (seconds, scope) in (100..).zip(scopes) {
        let mut policy = json!({"priority": "P2", "respond_within_seconds": seconds, "on_timeout": "raise"});
        policy.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        let stored = put(&app, &policy).await.json();
        let id = accepted(&app, &agent, json!({"client_request_key": format!("k{seconds}")})).await;
        let detail = detail(&app, &id).await;
        let expected = Timestamp(app.now() + std::time::Duration::from_secs(seconds)).to_string();
        assert_eq!(detail["respond_by"], expected);
        let submitted = &detail["chain"]["entries"][0];
        assert_eq!((&submitted["policy_id"], &submitted["on_timeout"]), (&stored["policy_id"], &json!("raise")));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn auto_approve_needs_its_policy_its_full_time_and_the_deployment(owner: PgPool) {
    let app = allowing_auto_approve(&owner);
    let agent = app.agent("a").await;
    let policy = json!({"agent_id": "a", "action_type": "refund.create", "priority": "P2",
        "respond_within_seconds": 100, "on_timeout": "auto_approve"});
    assert_eq!(put(&app, &policy).await.status, 200);
    let full = accepted(&app, &agent, json!({"client_request_key": "full"})).await;
    let soon = Timestamp(app.now() + std::time::Duration::from_secs(99)).to_string();
    let shortened = accepted(&app, &agent, json!({"client_request_key": "short", "respond_by": soon})).await;
    let other = json!({"client_request_key": "other", "action": {"type": "data.delete", "arguments": {}}});
    let other = accepted(&app, &agent, other).await;
    app.advance(99.9);
    sweep(&app).await;
    assert_eq!(detail(&app, &full).await["status"], "pending");
    app.advance(0.1);
    sweep(&app).await;
    let approved = detail(&app, &full).await;
    assert_eq!((&approved["outcome"], &approved["cause"]), (&json!("approved"), &json!("timeout")));
    assert_eq!(approved["decision"]["decided_by"]["kind"], "system");
    assert_eq!(approved["decision"]["decided_by"]["id"], "timeout-sweep");
    assert_eq!(detail(&app, &shortened).await["outcome"], "rejected");
    assert_eq!(detail(&app, &other).await["status"], "pending");

    let off = app.another_process(routes(), relaytrace_testing::NO_NATS);
    assert_eq!(put(&off, &policy).await.json()["errors"][0]["pointer"], "/on_timeout");
    let not_enabled = accepted(&app, &agent, json!({"client_request_key": "off"})).await;
    app.advance(100.0);
    sweep(&off).await;
    assert_eq!(detail(&app, &not_enabled).await["outcome"], "rejected");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn raise_goes_up_step_by_step_and_then_rejects(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let policy = json!({"agent_id": "a", "priority": "P3", "respond_within_seconds": 50, "on_timeout": "raise"});
    put(&app, &policy).await;
    let id = accepted(&app, &agent, json!({"priority": "P3"})).await;
    app.advance(50.0);
    assert_eq!(sweep(&app).await.raised, 1);
    let raised = detail(&app, &id).await;
    assert_eq!((&raised["priority"], &raised["status"]), (&json!("P2"), &json!("pending")));
    assert_eq!(raised["respond_by"], Timestamp(app.now() + std::time::Duration::from_hours(4)).to_string());
    let entry = &raised["chain"]["entries"][1];
    assert_eq!((&entry["kind"], &entry["actor"]["kind"]), (&json!("reprioritised"), &json!("system")));
    assert_eq!(entry["previous"]["priority"], "P3");
    app.advance(7_200.0);
    assert_eq!(sweep(&app).await.escalated, 1);
    app.advance(7_200.0);
    assert_eq!(sweep(&app).await.raised, 1);
    app.advance(900.0);
    let report = sweep(&app).await;
    assert_eq!((report.raised, report.expired), (0, 1));
    let rejected = detail(&app, &id).await;
    assert_eq!((&rejected["priority"], &rejected["outcome"]), (&json!("P1"), &json!("rejected")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn raise_never_goes_past_the_agents_own_deadline(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    put(&app, &json!({"priority": "P3", "respond_within_seconds": 100, "on_timeout": "raise"})).await;
    let own = Timestamp(app.now() + std::time::Duration::from_mins(1)).to_string();
    let id = accepted(&app, &agent, json!({"priority": "P3", "respond_by": own})).await;
    app.advance(60.0);
    let report = sweep(&app).await;
    assert_eq!((report.raised, report.expired), (0, 1));
    assert_eq!(detail(&app, &id).await["outcome"], "rejected");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn overlapping_sweeps_raise_each_request_once(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    put(&app, &json!({"priority": "P2", "respond_within_seconds": 100, "on_timeout": "raise"})).await;
    for number in 0..40 {
        accepted(&app, &agent, json!({"client_request_key": format!("k{number}")})).await;
    }
    app.advance(100.0);
    let sweeps = (0..8).map(|_| timeout_sweep::run_once(app.state.clone()));
    let reports = futures_util::future::join_all(sweeps).await;
    assert_eq!(reports.into_iter().map(|report| report.unwrap().raised).sum::<u64>(), 40);
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM approval_chain WHERE kind = 'reprioritised'")
        .fetch_one(&app.owner)
        .await
        .unwrap();
    assert_eq!(entries, 40);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_policy_pins_the_lowest_priority_of_an_action_type(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let before = json!({"priority": "P3", "client_request_key": "before"});
    accepted(&app, &agent, before.clone()).await;
    let pin = json!({"action_type": "refund.create", "priority": "P2", "respond_within_seconds": 60,
        "lowest_priority": "P2"});
    put(&app, &pin).await;
    let lower = submit(&app, &agent, json!({"priority": "P3"})).await;
    assert_eq!((lower.status.as_u16(), &lower.json()["errors"][0]["pointer"]), (422, &json!("/priority")));
    let late = Timestamp(app.now() + std::time::Duration::from_hours(48)).to_string();
    let refused = submit(&app, &agent, json!({"priority": "P3", "respond_by": late})).await;
    assert_eq!(refused.status, 422);
    let problem = refused.json();
    assert_eq!(problem["errors"][0]["pointer"], "/priority");
    assert_eq!(problem["errors"][1]["pointer"], "/respond_by");
    accepted(&app, &agent, json!({"priority": "P2"})).await;
    assert_eq!(submit(&app, &agent, before).await.status, 200, "what was accepted before keeps its answer");
    let other = json!({"priority": "P3", "client_request_key": "x", "action": {"type": "data.read", "arguments": {}}});
    accepted(&app, &agent, other).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_policy_is_removed_and_its_history_stays(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let (agent, root) = (app.agent("a").await, app.person("root", &["admin"]));
    let policy = json!({"agent_id": "a", "priority": "P2", "respond_within_seconds": 60, "on_timeout": "auto_reject"});
    let policy_id = put(&app, &policy).await.json()["policy_id"].clone();
    let before = accepted(&app, &agent, json!({"client_request_key": "before"})).await;
    let path = format!("/v1/admin/timeout-policies/{}", policy_id.as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(app.call("DELETE", &path, &root, &json!({})).await.status, 204, "it is safe to repeat");
    }
    let listed = app.get("/v1/admin/timeout-policies", &root).await.json();
    assert!(listed["items"].as_array().unwrap().iter().all(|item| item["policy_id"] != policy_id));
    let log = app.get("/v1/admin/log", &root).await.json();
    let deleted: Vec<_> =
        log["items"].as_array().unwrap().iter().filter(|item| item["action"] == "policy.deleted").collect();
    assert_eq!(deleted.len(), 1);
    assert_eq!((&deleted[0]["subject"], &deleted[0]["details"]["was"]["agent_id"]), (&policy_id, &json!("a")));
    // What was asked under it keeps its deadline, what is asked now has the wider policy's.
    let after = accepted(&app, &agent, json!({"client_request_key": "after"})).await;
    app.advance(60.0);
    assert_eq!(sweep(&app).await.expired, 1);
    assert_eq!(detail(&app, &before).await["outcome"], "rejected");
    assert_eq!(detail(&app, &after).await["status"], "pending");
}
