//! Caps against a real database: exact under races, and given back by whatever ends a request.

use futures_util::future::join_all;
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestAgent, TestApp, until};
use serde_json::{Value, json};
use sqlx::PgPool;

fn routes() -> Routes {
    admin::router().merge(ingest::router()).merge(decide::router()).merge(timeout_sweep::router())
}

async fn cap(app: &TestApp, agent: &TestAgent, change: &Value) -> Answer {
    let path = format!("/v1/admin/agents/{}", agent.agent_id);
    app.call("PATCH", &path, &app.person("root", &["admin"]), change).await
}

async fn ask(app: &TestApp, agent: &TestAgent, key: &str, priority: &str) -> Answer {
    let mut envelope = agent.envelope(key);
    envelope["priority"] = json!(priority);
    app.post("/v1/hitl/requests", &agent.token(), &envelope).await
}

async fn approve(app: &TestApp, request_id: &str) -> Answer {
    let path = format!("/v1/hitl/requests/{request_id}/decision");
    app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await
}

fn id(answer: &Answer) -> String {
    answer.json()["request_id"].as_str().expect("an id").to_owned()
}

/// The counter, after a look at the rows that it counts: they must agree at any time.
async fn counted(app: &TestApp, agent: &TestAgent) -> (i64, i64) {
    let counts: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT pending::bigint, pending_p1::bigint FROM agent_caps WHERE agent_id = $1 UNION ALL
        SELECT count(*), count(*) FILTER (WHERE priority = 1) FROM hitl_requests
        WHERE agent_id = $1 AND status = 'pending' AND counted",
    )
    .bind(&agent.agent_id)
    .fetch_all(&app.owner)
    .await
    .expect("the counts");
    assert_eq!(counts[0], counts[1], "the counter and the rows");
    counts[0]
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_cap_is_exact_under_a_race_and_refuses_nothing_that_is_there(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    assert_eq!(cap(&app, &agent, &json!({"max_pending": 10})).await.json()["max_pending"], 10);
    let keys: Vec<_> = (0..40).map(|number| format!("k{number}")).collect();
    let answers = join_all(keys.iter().map(|key| ask(&app, &agent, key, "P2"))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = keys.iter().zip(&answers).partition(|(_, answer)| answer.status == 201);
    assert_eq!((accepted.len(), refused.len()), (10, 30));
    for (_, answer) in &refused {
        assert_eq!((answer.status.as_u16(), answer.code()), (429, "rate-limited".into()));
        assert_eq!(answer.json()["retryable"], true);
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("max_pending")));
        assert!(answer.headers["retry-after"].to_str().is_ok_and(|seconds| seconds.parse::<u32>().is_ok()));
    }
    assert_eq!(counted(&app, &agent).await, (10, 0));
    // What was refused left nothing, what was accepted is still answered.
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM request_dedupe").fetch_one(&owner).await.expect("rows");
    assert_eq!(stored, 10);
    assert_eq!(ask(&app, &agent, accepted[0].0, "P2").await.status, 200);
    // A place that is given back is taken once.
    assert_eq!(approve(&app, &id(accepted[0].1)).await.status, 201);
    let again = join_all(refused.iter().map(|(key, _)| ask(&app, &agent, key, "P2"))).await;
    assert_eq!(again.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(counted(&app, &agent).await, (10, 0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whatever_ends_a_request_gives_its_place_back(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let (agent, root) = (app.agent("a").await, app.person("root", &["admin"]));
    cap(&app, &agent, &json!({"max_pending": 4, "max_pending_p1": 4})).await;
    let mut ids = Vec::new();
    for key in ["approved", "cancelled", "disposed", "expired"] {
        ids.push(id(&ask(&app, &agent, key, "P1").await));
    }
    assert_eq!(counted(&app, &agent).await, (4, 4));
    approve(&app, &ids[0]).await;
    let path = format!("/v1/agents/a/requests/{}/cancel", ids[1]);
    assert_eq!(app.post(&path, &agent.token(), &json!({})).await.status, 200);
    let path = format!("/v1/admin/requests/{}/disposition", ids[2]);
    app.post(&path, &root, &json!({"action": "reject", "reason": "no"})).await;
    assert_eq!(counted(&app, &agent).await, (1, 1));
    app.advance(901.0);
    let root = app.person("root", &["admin"]);
    assert_eq!(app.post("/internal/timeout-sweep", &root, &json!({})).await.json()["expired"], 1);
    assert_eq!(counted(&app, &agent).await, (0, 0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn another_priority_moves_the_count(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let (agent, root) = (app.agent("a").await, app.person("root", &["admin"]));
    cap(&app, &agent, &json!({"max_pending_p1": 1})).await;
    let first = id(&ask(&app, &agent, "k1", "P1").await);
    let second = id(&ask(&app, &agent, "k2", "P2").await);
    let refused = ask(&app, &agent, "k3", "P1").await;
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("max_pending_p1")));
    let reprioritise = async |request_id: &str, priority: &str| {
        let body = json!({"action": "reprioritise", "priority": priority, "reason": "weighed again"});
        app.post(&format!("/v1/admin/requests/{request_id}/disposition"), &root, &body).await
    };
    // An administrator is not bound by it; the agent has to wait for two.
    assert_eq!(reprioritise(&second, "P1").await.status, 200);
    assert_eq!(counted(&app, &agent).await, (2, 2));
    assert_eq!(reprioritise(&first, "P3").await.status, 200);
    assert_eq!(counted(&app, &agent).await, (2, 1));
    assert_eq!(ask(&app, &agent, "k3", "P1").await.status, 429);
    approve(&app, &second).await;
    assert_eq!(ask(&app, &agent, "k3", "P1").await.status, 201);
    assert_eq!(counted(&app, &agent).await, (2, 1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_new_cap_counts_what_is_pending_and_one_taken_away_refuses_nothing(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(id(&ask(&app, &agent, &format!("k{number}"), "P2").await));
    }
    assert_eq!(counted(&app, &agent).await, (0, 0));
    // Set while decisions and submissions are on their way: whoever comes first, the count is right.
    let capped = json!({"max_pending": 3});
    let (set, _, _) =
        tokio::join!(cap(&app, &agent, &capped), approve(&app, &ids[0]), ask(&app, &agent, "meanwhile", "P2"));
    assert_eq!(set.status, 200);
    let (pending, _) = counted(&app, &agent).await;
    assert!((4..=5).contains(&pending), "{pending}");
    assert_eq!(ask(&app, &agent, "refused", "P2").await.status, 429);
    let none = cap(&app, &agent, &json!({"max_pending": null})).await;
    assert_eq!((none.status.as_u16(), &none.json()["max_pending"]), (200, &Value::Null));
    assert_eq!(ask(&app, &agent, "refused", "P2").await.status, 201);
    approve(&app, &ids[1]).await;
    assert_eq!(counted(&app, &agent).await, (pending - 1, 0));
    cap(&app, &agent, &capped).await;
    assert_eq!(counted(&app, &agent).await, (pending, 0), "one more and one less");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_new_cap_waits_for_submissions_under_way(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    // As a submission does that has seen no cap: its rows are to be counted, and nobody sees them yet.
    let mut under_way = app.owner.begin().await.expect("a transaction");
    sqlx::query("INSERT INTO hitl_requests SELECT * FROM hitl_requests WHERE false")
        .execute(&mut *under_way)
        .await
        .expect("a writer");
    let looked = "SELECT count(*) > 0 FROM pg_stat_activity
        WHERE query LIKE '/* relaytrace: writers_of_requests */%' AND state = 'idle' AND datname = current_database()";
    let capped = json!({"max_pending": 3});
    let ended = std::cell::Cell::new(false);
    let set = async {
        let set = cap(&app, &agent, &capped).await;
        assert!(ended.get(), "the cap did not wait");
        set
    };
    let end = async {
        until(async || sqlx::query_scalar(looked).fetch_one(&app.owner).await.expect("an answer")).await;
        ended.set(true);
        under_way.rollback().await.expect("the end");
    };
    let (set, ()) = tokio::join!(set, end);
    assert_eq!(set.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_cap_that_is_none_is_refused_and_changes_nothing(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    for cap_value in [json!(0), json!(-1), json!(1_000_001), json!(1.5), json!("3")] {
        let answer = cap(&app, &agent, &json!({"name": "changed", "max_pending": cap_value})).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (422, "validation-failed".into()), "{cap_value}");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/max_pending");
    }
    let shown = cap(&app, &agent, &json!({})).await.json();
    assert_ne!(shown["name"], "changed");
    assert_eq!((&shown["max_pending"], &shown["max_pending_p1"]), (&Value::Null, &Value::Null));
}
