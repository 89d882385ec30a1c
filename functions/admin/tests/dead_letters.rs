//! Dead letters and what is stale, against a real database.

use futures_util::future::join_all;
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestAgent, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

const POLL: &str = "/v1/agents/a/decisions/poll";

fn routes() -> Routes {
    admin::router().merge(ingest::router()).merge(decide::router()).merge(poll::router())
}

/// A request whose decision its agent has called a lasting failure.
async fn failed(app: &TestApp, agent: &TestAgent, key: &str) -> String {
    let id = app.submit(agent, key).await;
    let decide = format!("/v1/hitl/requests/{id}/decision");
    app.post(&decide, &app.operator("maria"), &json!({"decision": "approve"})).await;
    let delivery = app.get(&format!("{POLL}?request_id={id}"), &agent.token()).await.json()["decisions"][0].clone();
    let ack = json!({"delivery_id": delivery["delivery_id"], "result": "failed",
        "error": {"code": "E1", "message": "no such customer"}});
    let answer = app.post(&format!("/v1/agents/a/decisions/{id}/ack"), &agent.token(), &ack).await;
    assert_eq!(answer.json()["state"], "dead_lettered");
    id
}

async fn listed(app: &TestApp, query: &str) -> Value {
    app.get(&format!("/v1/admin/dead-letters{query}"), &app.person("root", &["admin"])).await.json()
}

async fn act(app: &TestApp, who: &str, letter: &Value, action: &str) -> Answer {
    let path = format!("/v1/admin/dead-letters/{}/{action}", letter["dead_letter_id"].as_str().expect("an id"));
    app.post(&path, &app.person(who, &["admin"]), &json!({"reason": "known"})).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn they_are_listed_with_their_errors_and_filtered(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let mut ids = Vec::new();
    for key in ["k1", "k2", "k3"] {
        ids.push(failed(&app, &agent, key).await);
        app.advance(1.0);
    }
    let (mut found, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let page = listed(&app, &query).await;
        found.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=1&cursor={cursor}");
    }
    let newest_first: Vec<_> = found.iter().rev().map(|letter| letter["request_id"].as_str().unwrap()).collect();
    assert_eq!(newest_first, ids);
    assert_eq!((&found[0]["kind"], &found[0]["cause"]), (&json!("delivery"), &json!("agent_failed")));
    assert_eq!((&found[0]["error_code"], &found[0]["error_message"]), (&json!("E1"), &json!("no such customer")));
    assert_eq!(act(&app, "root", &found[0], "discard").await.status, 200);
    for (query, count) in [
        ("", 2),
        ("?status=resolved", 1),
        ("?status=all", 3),
        ("?kind=sweep", 0),
        ("?kind=delivery&agent_id=a", 2),
        ("?agent_id=b", 0),
    ] {
        assert_eq!(listed(&app, query).await["items"].as_array().unwrap().len(), count, "{query}");
    }
    assert_eq!(listed(&app, "?status=odd&kind=odd&agent_id=O").await["errors"].as_array().unwrap().len(), 3);
    assert_eq!(app.get("/v1/admin/dead-letters", &app.operator("maria")).await.status, 403);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_retried_delivery_goes_out_again_at_once_and_is_told_once(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = failed(&app, &agent, "k").await;
    app.advance(23.0 * 3_600.0);
    let letter = listed(&app, "").await["items"][0].clone();
    let answers = join_all((0..5).map(|number| {
        let (app, letter) = (&app, &letter);
        async move { act(app, &format!("root{number}"), letter, "retry").await }
    }))
    .await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.json()["resolution"] == "retried"));
    assert!(answers.iter().all(|answer| answer.json() == answers[0].json()), "each sees who won");
    let events: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox WHERE kind = 'replayed'").fetch_one(&app.owner).await.unwrap();
    assert_eq!(events, 1);
    // Older than a day by now: its age started anew.
    app.advance(2.0 * 3_600.0);
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().dead_lettered, 0);
    let delivery = app.get(POLL, &agent.token()).await.json()["decisions"][0].clone();
    assert_eq!((&delivery["attempt"], &delivery["replayed"]), (&json!(2), &json!(true)));
    let ack = json!({"delivery_id": delivery["delivery_id"], "result": "accepted"});
    assert_eq!(app.post(&format!("/v1/agents/a/decisions/{id}/ack"), &agent.token(), &ack).await.status, 200);
    assert_eq!(act(&app, "root", &letter, "discard").await.code(), "conflict");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_discarded_one_stays_discarded(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    failed(&app, &agent, "k").await;
    let letter = listed(&app, "").await["items"][0].clone();
    let first = act(&app, "root", &letter, "discard").await.json();
    assert_eq!((&first["resolution"], &first["resolve_reason"]), (&json!("discarded"), &json!("known")));
    assert_eq!(act(&app, "eve", &letter, "discard").await.json(), first);
    assert_eq!(act(&app, "root", &letter, "retry").await.code(), "conflict");
    let path = format!("/v1/admin/dead-letters/{}/discard", letter["dead_letter_id"].as_str().unwrap());
    assert_eq!(app.post(&path, &app.person("root", &["admin"]), &json!({})).await.status, 422);
    let unknown = json!({"dead_letter_id": uuid::Uuid::nil().to_string()});
    for action in ["retry", "discard"] {
        assert_eq!(act(&app, "root", &unknown, action).await.code(), "not-found");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_stale_says_why_and_since_when(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let root = app.person("root", &["admin"]);
    let dead = failed(&app, &agent, "dead").await;
    let pending = app.submit(&agent, "pending").await;
    let waiting = app.submit(&agent, "waiting").await;
    let path = format!("/v1/hitl/requests/{waiting}/decision");
    app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await;
    let why = async |query: &str| -> Vec<(String, Value)> {
        let page = app.get(&format!("/v1/admin/stale{query}"), &root).await.json();
        let items = page["items"].as_array().unwrap().clone();
        let mut found: Vec<_> =
            items.iter().map(|item| (item["why"].as_str().unwrap().to_owned(), item["request_id"].clone())).collect();
        found.sort_by_key(|(why, _)| why.clone());
        found
    };
    assert_eq!(why("").await, [("dead_lettered".into(), json!(dead))]);
    app.advance(600.0);
    let stuck = [
        ("dead_lettered".into(), json!(dead)),
        ("not_polling".into(), Value::Null),
        ("unacknowledged".into(), json!(waiting)),
    ];
    assert_eq!(why("").await, stuck);
    assert_eq!(why("?minutes=11").await, stuck[..1]);
    app.advance(3.0 * 3_600.0 - 600.0);
    assert!(why("").await.contains(&("pending".into(), json!(pending))));
    assert!(!why("?pending_percent=76").await.contains(&("pending".into(), json!(pending))));
    let (mut seen, mut query) = (0, "?limit=1".to_owned());
    loop {
        let page = app.get(&format!("/v1/admin/stale{query}"), &root).await.json();
        seen += page["items"].as_array().unwrap().len();
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=1&cursor={cursor}");
    }
    assert_eq!(seen, 4);
    assert_eq!(app.get("/v1/admin/stale?minutes=x", &root).await.status, 422);
    assert_eq!(app.get("/v1/admin/stale", &app.operator("maria")).await.status, 403);
}
