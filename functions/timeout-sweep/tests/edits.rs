//! Edits that race: one decision, whoever comes first, and the permit is for what that one approved.

use relaytrace_domain::{Json, action_digest};
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestAgent, TestApp, until_blocked};
use serde_json::{Value, json};
use sqlx::PgPool;

const EDITED: &str = r#"{"type":"refund.create","arguments":{"amount":"9.00","currency":"EUR"}}"#;

fn routes() -> Routes {
    ingest::router().merge(decide::router()).merge(poll::router()).merge(timeout_sweep::router())
}

fn digest(action: &str) -> String {
    action_digest(&Json::parse(action.as_bytes()).expect("an action")).to_string()
}

fn edit() -> Value {
    let action: Value = serde_json::from_str(EDITED).expect("an action");
    json!({"decision": "edit", "arguments": action["arguments"], "edited_action_digest": digest(EDITED)})
}

/// A pending request whose agent takes edits: its id, and the digest that it asks for.
async fn submit(app: &TestApp, agent: &TestAgent, key: &str) -> (String, String) {
    let mut envelope = agent.envelope(key);
    envelope["answers"] = json!(["approve", "reject", "edit"]);
    let answer = app.post("/v1/hitl/requests", &agent.token(), &envelope).await;
    assert_eq!(answer.status, 201);
    let text = |name: &str| answer.json()[name].as_str().expect("a text").to_owned();
    (text("request_id"), text("action_digest"))
}

/// Calls of which the first holds up the others at one row: they get it in their order.
async fn in_order<A, B>(
    owner: &PgPool,
    id: &str,
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> (A, B) {
    let mut blocking = owner.begin().await.expect("a transaction");
    let lock = "SELECT FROM hitl_requests WHERE request_id = $1::uuid FOR UPDATE";
    sqlx::query(lock).bind(id).execute(&mut *blocking).await.expect("locked");
    let second = async {
        until_blocked(owner, 1).await;
        second.await
    };
    let release = async {
        until_blocked(owner, 2).await;
        blocking.rollback().await.expect("released");
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    (first, second)
}

/// The request has the one decision of its winner, and its permit is for that one's action alone.
async fn decided(app: &TestApp, agent: &TestAgent, id: &str, winner: &Answer, approved: Option<&str>) {
    assert_eq!(winner.status, 201);
    let decisions = "SELECT count(*) FROM approval_chain WHERE kind = 'decided' AND request_id = $1::uuid";
    let decisions: i64 = sqlx::query_scalar(decisions).bind(id).fetch_one(&app.owner).await.expect("a count");
    assert_eq!(decisions, 1);
    let path = format!("/v1/agents/a/requests/{id}");
    let view = app.get(&path, &agent.token()).await.json();
    assert_eq!(view["decision"]["action_digest"], winner.json()["action_digest"]);
    assert_eq!(winner.json()["action_digest"].as_str(), approved);
    let consume = async |key: &str, digest: &str| {
        let attempt = json!({"consume_key": key, "action_digest": digest});
        app.post(&format!("{path}/consume"), &agent.token(), &attempt).await
    };
    for other in [digest(EDITED), digest(&EDITED.replace("9.00", "12.40"))] {
        if Some(other.as_str()) != approved {
            assert_eq!(consume("another-action-0", &other).await.code(), "action-mismatch");
        }
    }
    assert_eq!(consume("the-approved-one", approved.expect("a digest")).await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_edit_and_an_approval_at_once_make_one_decision_and_a_permit_for_its_action(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    for is_edit_first in [true, false] {
        let (id, asked) = submit(&app, &agent, &format!("k-{is_edit_first}")).await;
        let path = format!("/v1/hitl/requests/{id}/decision");
        let decide = async |who: &str, body: Value| app.post(&path, &app.operator(who), &body).await;
        let (edit, approval) = (edit(), json!({"decision": "approve", "action_digest": asked}));
        let (first, second) = if is_edit_first { (edit, approval) } else { (approval, edit) };
        let (winner, loser) = in_order(&owner, &id, decide("maria", first), decide("jonas", second)).await;
        assert_eq!((loser.status.as_u16(), loser.code().as_str()), (409, "already-decided"));
        assert_eq!(loser.json()["decision"], winner.json());
        let approved = if is_edit_first { digest(EDITED) } else { asked };
        decided(&app, &agent, &id, &winner, Some(&approved)).await;
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_edit_and_the_sweep_at_the_deadline_make_one_decision(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    for is_edit_first in [true, false] {
        let (id, _) = submit(&app, &agent, &format!("k-{is_edit_first}")).await;
        let path = format!("/v1/hitl/requests/{id}/decision");
        let maria = app.operator("maria");
        // The operator is in time by a microsecond; the sweep's clock is past the deadline.
        app.advance(4.0 * 3_600.0 - 0.000_001);
        let edit = edit();
        let answering = app.post(&path, &maria, &edit);
        let sweeping = async {
            app.advance(0.000_001);
            timeout_sweep::run_once(app.state.clone()).await.expect("a sweep").expired
        };
        if is_edit_first {
            let (winner, expired) = in_order(&owner, &id, answering, sweeping).await;
            assert_eq!(expired, 0);
            decided(&app, &agent, &id, &winner, Some(&digest(EDITED))).await;
        } else {
            let (expired, loser) = in_order(&owner, &id, sweeping, answering).await;
            assert_eq!((expired, loser.status.as_u16(), loser.code().as_str()), (1, 409, "already-decided"));
            assert_eq!(loser.json()["decision"]["cause"], "timeout");
            let attempt = json!({"consume_key": "nothing-approved", "action_digest": digest(EDITED)});
            let refused = app.post(&format!("/v1/agents/a/requests/{id}/consume"), &agent.token(), &attempt).await;
            assert_eq!(refused.code(), "not-approved");
        }
    }
}
