//! Dispositions against a real database: each on record, each once, and what the state refuses.

use futures_util::future::join_all;
use relaytrace_domain::Timestamp;
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestApp, until_blocked};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::Notify;

fn routes() -> Routes {
    admin::router().merge(ingest::router()).merge(decide::router()).merge(poll::router())
}

async fn dispose(app: &TestApp, who: &str, request_id: &str, body: &Value) -> Answer {
    let path = format!("/v1/admin/requests/{request_id}/disposition");
    app.post(&path, &app.person(who, &["admin"]), body).await
}

async fn kinds(app: &TestApp, request_id: &str) -> Vec<String> {
    let id: uuid::Uuid = request_id.parse().expect("an id");
    sqlx::query_scalar("SELECT kind FROM approval_chain WHERE request_id = $1 ORDER BY seq")
        .bind(id)
        .fetch_all(&app.owner)
        .await
        .expect("the chain")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn cancel_and_reject_decide_once_and_name_who_won(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    for (action, outcome) in [("cancel", "cancelled"), ("reject", "rejected")] {
        let id = app.submit(&agent, action).await;
        let body = json!({"action": action, "reason": "nobody needs it"});
        let first = dispose(&app, "root", &id, &body).await;
        assert_eq!(first.status, 200, "{}", String::from_utf8_lossy(&first.bytes));
        let decision = first.json()["decision"].clone();
        assert_eq!((&decision["outcome"], &decision["cause"]), (&json!(outcome), &json!("admin")));
        assert_eq!(decision["decided_by"]["kind"], "admin");
        let again = dispose(&app, "root", &id, &body).await;
        assert_eq!((again.status.as_u16(), again.json()), (200, first.json()));
        let other = dispose(&app, "eve", &id, &body).await;
        assert_eq!((other.code(), &other.json()["decision"]), ("already-decided".into(), &decision));
        assert_eq!(kinds(&app, &id).await, ["submitted", "decided"]);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn racing_administrators_and_operators_make_one_decision(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let (approve, reject) = (json!({"decision": "approve"}), json!({"action": "reject", "reason": "stop"}));
    let (maria, mut by_operator) = (app.operator("maria"), 0);
    for round in 0..20 {
        let id = app.submit(&agent, &format!("k{round}")).await;
        let decide = format!("/v1/hitl/requests/{id}/decision");
        // Both wait for the row, in every other round the administrators first: the lock goes to them in that order.
        let mut holding = owner.begin().await.expect("a transaction");
        let lock = "SELECT FROM hitl_requests WHERE request_id = $1 FOR UPDATE";
        sqlx::query(lock).bind(id.parse::<uuid::Uuid>().unwrap()).execute(&mut *holding).await.expect("locked");
        let is_operator_first = round % 2 == 0;
        let second_may_go = Notify::new();
        let deciding = async {
            if !is_operator_first {
                second_may_go.notified().await;
            }
            app.post(&decide, &maria, &approve).await
        };
        let disposing = async {
            if is_operator_first {
                second_may_go.notified().await;
            }
            join_all((0..10).map(|number| {
                let (app, id, reject) = (&app, &id, &reject);
                async move { dispose(app, &format!("root{number}"), id, reject).await }
            }))
            .await
        };
        // What is sent together goes in one statement or waits behind it: two statements wait at the lock.
        let release = async {
            until_blocked(&owner, 1).await;
            second_may_go.notify_one();
            until_blocked(&owner, 2).await;
            holding.rollback().await.expect("released");
        };
        let (operator, admins, ()) = tokio::join!(deciding, disposing, release);
        let by_admins = admins.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(by_admins + usize::from(operator.status == 201), 1);
        assert!(admins.iter().all(|answer| answer.status == 200 || answer.code() == "already-decided"));
        assert_eq!(kinds(&app, &id).await, ["submitted", "decided"]);
        by_operator += usize::from(operator.status == 201);
    }
    assert!(
        (1..20).contains(&by_operator),
        "{by_operator} of 20 races were won by the operator, and none by the other"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn extend_moves_the_deadline_once_and_never_after_it(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = app.submit(&agent, "k").await;
    let later = |hours| Timestamp(app.now() + std::time::Duration::from_hours(hours)).to_string();
    let body = json!({"action": "extend", "reason": "maria is away", "respond_by": later(8)});
    let answers = join_all((0..5).map(|_| dispose(&app, "root", &id, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.json()["respond_by"] == body["respond_by"]));
    assert_eq!(kinds(&app, &id).await, ["submitted", "extended"]);
    assert_eq!(dispose(&app, "eve", &id, &body).await.code(), "conflict");
    let sooner = json!({"action": "extend", "reason": "hurry", "respond_by": later(1)});
    assert_eq!(dispose(&app, "root", &id, &sooner).await.json()["errors"][0]["pointer"], "/respond_by");
    let (too_late, first) = (json!({"action": "extend", "reason": "more", "respond_by": later(9)}), body);
    app.advance(8.0 * 3_600.0);
    assert_eq!(dispose(&app, "root", &id, &too_late).await.code(), "expired");
    assert_eq!(dispose(&app, "root", &id, &first).await.status, 200, "a repeated call is answered as before");
    let decided = app.submit(&agent, "k2").await;
    dispose(&app, "root", &decided, &json!({"action": "cancel", "reason": "x"})).await;
    let body = json!({"action": "extend", "reason": "x", "respond_by": later(9)});
    assert_eq!(dispose(&app, "root", &decided, &body).await.code(), "conflict");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn reprioritise_changes_the_priority_once(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = app.submit(&agent, "k").await;
    let body = json!({"action": "reprioritise", "reason": "the customer waits", "priority": "P1"});
    let answers = join_all((0..5).map(|_| dispose(&app, "root", &id, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.json()["priority"] == "P1"));
    assert_eq!(kinds(&app, &id).await, ["submitted", "reprioritised"]);
    assert_eq!(dispose(&app, "eve", &id, &body).await.code(), "conflict");
    dispose(&app, "root", &id, &json!({"action": "cancel", "reason": "x"})).await;
    let down = json!({"action": "reprioritise", "reason": "x", "priority": "P3"});
    assert_eq!(dispose(&app, "root", &id, &down).await.code(), "conflict");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn requeue_sends_the_decision_again_until_it_is_acknowledged(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = app.submit(&agent, "k").await;
    let body = json!({"action": "requeue", "reason": "the agent lost it"});
    assert_eq!(dispose(&app, "root", &id, &body).await.code(), "conflict", "it is pending");
    dispose(&app, "root", &id, &json!({"action": "reject", "reason": "x"})).await;
    let poll = "/v1/agents/a/decisions/poll";
    let first = app.get(poll, &agent.token()).await.json()["decisions"][0].clone();
    assert_eq!(first["attempt"], 1);
    let answers = join_all((0..5).map(|_| dispose(&app, "root", &id, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(kinds(&app, &id).await, ["submitted", "decided", "replayed"]);
    let second = app.get(poll, &agent.token()).await.json()["decisions"][0].clone();
    assert_eq!((&second["attempt"], &second["replayed"]), (&json!(2), &json!(true)));
    assert_eq!(second["receipt"], first["receipt"]);
    let ack = json!({"delivery_id": second["delivery_id"], "result": "accepted"});
    let acked = app.post(&format!("/v1/agents/a/decisions/{id}/ack"), &agent.token(), &ack).await;
    assert_eq!(acked.status, 200);
    assert_eq!(dispose(&app, "root", &id, &body).await.code(), "conflict", "it is acknowledged");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_does_not_fit_the_action_is_refused_with_every_fault(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = app.submit(&agent, "k").await;
    for (body, pointers) in [
        (json!({}), vec!["/action", "/reason"]),
        (json!({"action": "approve", "reason": "x"}), vec!["/action"]),
        (json!({"action": "cancel", "reason": ""}), vec!["/reason"]),
        (json!({"action": "extend", "reason": "x", "priority": "P1"}), vec!["/respond_by", "/priority"]),
        (json!({"action": "reprioritise", "reason": "x"}), vec!["/priority"]),
    ] {
        let problem = dispose(&app, "root", &id, &body).await.json();
        assert_eq!(problem["status"], 422, "{body}");
        let found: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].clone()).collect();
        assert_eq!(found, pointers, "{body}");
    }
    let unknown = uuid::Uuid::nil().to_string();
    let actions = [
        json!({"action": "cancel", "reason": "x"}),
        json!({"action": "requeue", "reason": "x"}),
        json!({"action": "reprioritise", "reason": "x", "priority": "P1"}),
    ];
    for body in actions {
        assert_eq!(dispose(&app, "root", &unknown, &body).await.code(), "not-found");
    }
    let path = format!("/v1/admin/requests/{id}/disposition");
    let body = json!({"action": "cancel", "reason": "x"});
    assert_eq!(app.post(&path, &app.operator("maria"), &body).await.status, 403);
    assert_eq!(kinds(&app, &id).await, ["submitted"]);
}
