//! Edits that race: one decision, whoever comes first, and the permit is for what that one approved.

use relaytrace_domain::{Json, action_digest};
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestAgent, TestApp, until_blocked};
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::Notify;

const EDITED: &str = r#"{"type":"refund.create","arguments":{"amount":"9.00","currency":"EUR"}}"#;

fn routes() -> Routes {
    ingest::router().merge(decide::router()).merge(poll::router()).merge(admin::router()).merge(timeout_sweep::router())
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

/// Lets a decision of the agent `a` get its request's row and no further, until the transaction ends.
async fn hold_up(owner: &PgPool) -> Transaction<'static, Postgres> {
    let mut blocking = owner.begin().await.expect("a transaction");
    let lock = "SELECT FROM agent_caps WHERE agent_id = 'a' FOR UPDATE";
    sqlx::query(lock).execute(&mut *blocking).await.expect("locked");
    blocking
}

/// Waits until so many statements wait for a lock, or the first decision has been given up.
async fn until_waiting(owner: &PgPool, statements: usize, has_ended: &Notify) {
    tokio::select! {
        () = until_blocked(owner, statements) => {}
        () = has_ended.notified() => has_ended.notify_one(),
    }
}

/// Two decisions: the first has the request's row when the second comes and waits for it.
async fn in_order<A, B>(owner: &PgPool, first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (blocking, first_ended) = (hold_up(owner).await, Notify::new());
    let first = async {
        let done = first.await;
        first_ended.notify_one();
        done
    };
    let second = async {
        until_waiting(owner, 1, &first_ended).await;
        second.await
    };
    let release = async {
        until_waiting(owner, 2, &first_ended).await;
        blocking.rollback().await.expect("released");
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    (first, second)
}

/// The application, and its agent, whose pending requests are counted.
async fn app(owner: &PgPool) -> (TestApp, TestAgent) {
    let app = TestApp::new(owner, routes());
    let agent = app.agent("a").await;
    let caps = json!({"max_pending": 100});
    let capped = app.call("PATCH", "/v1/admin/agents/a", &app.person("root", &["admin"]), &caps).await;
    assert_eq!(capped.status, 200);
    (app, agent)
}

/// The request has the one decision of its winner, and its permit is for that one's action alone.
async fn decided(app: &TestApp, agent: &TestAgent, id: &str, winner: &Answer, approved: &str) {
    assert_eq!(winner.status, 201);
    let decisions = "SELECT count(*) FROM approval_chain WHERE kind = 'decided' AND request_id = $1::uuid";
    let decisions: i64 = sqlx::query_scalar(decisions).bind(id).fetch_one(&app.owner).await.expect("a count");
    assert_eq!(decisions, 1);
    let path = format!("/v1/agents/a/requests/{id}");
    let view = app.get(&path, &agent.token()).await.json();
    assert_eq!(view["decision"]["action_digest"], winner.json()["action_digest"]);
    assert_eq!(winner.json()["action_digest"], approved);
    let consume = async |key: &str, digest: &str| {
        let attempt = json!({"consume_key": key, "action_digest": digest});
        app.post(&format!("{path}/consume"), &agent.token(), &attempt).await
    };
    for other in [digest(EDITED), digest(&EDITED.replace("9.00", "12.40"))] {
        if other != approved {
            assert_eq!(consume("another-action-0", &other).await.code(), "action-mismatch");
        }
    }
    assert_eq!(consume("the-approved-one", approved).await.status, 200);
}

/// Who is first at the row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    Edit,
    Other,
}

/// Plays a race until both sides are answered: where the machine is slow, a statement that waits too long for the lock is
/// given up.
async fn race(mut play: impl AsyncFnMut(First, &str) -> bool) {
    for first in [First::Edit, First::Other] {
        let mut tries = 0;
        while !play(first, &format!("k-{first:?}-{tries}")).await {
            tries += 1;
            assert!(tries < 20, "no race was answered");
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_edit_and_an_approval_at_once_make_one_decision_and_a_permit_for_its_action(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    race(async |first, key| {
        let (id, asked) = submit(&app, &agent, key).await;
        let path = format!("/v1/hitl/requests/{id}/decision");
        let decide = async |who: &str, body: Value| app.post(&path, &app.operator(who), &body).await;
        let (edit, approval) = (edit(), json!({"decision": "approve", "action_digest": asked}));
        let (one, other) = if first == First::Edit { (edit, approval) } else { (approval, edit) };
        let (winner, loser) = in_order(&owner, decide("maria", one), decide("jonas", other)).await;
        if winner.status == 503 || loser.status == 503 {
            return false;
        }
        assert_eq!((loser.status.as_u16(), loser.code().as_str()), (409, "already-decided"));
        assert_eq!(loser.json()["decision"], winner.json());
        let approved = if first == First::Edit { digest(EDITED) } else { asked };
        decided(&app, &agent, &id, &winner, &approved).await;
        true
    })
    .await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_edit_and_the_sweep_at_the_deadline_make_one_decision(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    for round in 0..12 {
        let (id, _) = submit(&app, &agent, &format!("k-{round}")).await;
        let (path, maria, edit) = (format!("/v1/hitl/requests/{id}/decision"), app.operator("maria"), edit());
        // The operator is in time by a microsecond; the sweep's clock is past the deadline.
        app.advance(4.0 * 3_600.0 - 0.000_001);
        let sweeping = async {
            // Either may have the start: without this the sweep's clock is always ahead.
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            app.advance(0.000_001);
            timeout_sweep::run_once(app.state.clone()).await.expect("a sweep")
        };
        let (answer, report) = tokio::join!(biased; app.post(&path, &maria, &edit), sweeping);
        if answer.status == 201 {
            assert_eq!(report.expired, 0);
            decided(&app, &agent, &id, &answer, &digest(EDITED)).await;
            continue;
        }
        assert_eq!(answer.status, 409);
        assert!(["expired", "already-decided"].contains(&answer.code().as_str()), "{}", answer.code());
        timeout_sweep::run_once(app.state.clone()).await.expect("a sweep");
        let view = app.get(&format!("/v1/agents/a/requests/{id}"), &agent.token()).await.json();
        assert_eq!((&view["decision"]["cause"], &view["permit"]), (&json!("timeout"), &Value::Null));
        let attempt = json!({"consume_key": "nothing-approved", "action_digest": digest(EDITED)});
        let refused = app.post(&format!("/v1/agents/a/requests/{id}/consume"), &agent.token(), &attempt).await;
        assert_eq!(refused.code(), "not-approved");
    }
}
