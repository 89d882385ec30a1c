//! Acknowledgements that wait for one another: written together, answered each by itself.

use futures_util::future::join_all;
use relaytrace_store::{MIGRATOR, Scope, WRITERS};
use relaytrace_testing::{TestAgent, TestApp, until, until_blocked};
use serde_json::{Value, json};
use sqlx::PgPool;

async fn delivered(app: &TestApp, agent: &TestAgent, key: &str) -> Value {
    let id = app.submit(agent, key).await;
    let path = format!("/v1/hitl/requests/{id}/decision");
    assert_eq!(app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await.status, 201);
    let path = format!("/v1/agents/{}/decisions/poll?request_id={id}", agent.agent_id);
    app.get(&path, &agent.token()).await.json()["decisions"][0].clone()
}

async fn ack(app: &TestApp, agent: &TestAgent, delivery: &Value, result: &str) -> (u16, Value) {
    let id = delivery["request_id"].as_str().expect("an id");
    let path = format!("/v1/agents/{}/decisions/{id}/ack", agent.agent_id);
    let body = json!({"delivery_id": delivery["delivery_id"], "result": result});
    let answer = app.post(&path, &agent.token(), &body).await;
    (answer.status.as_u16(), answer.json())
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_waits_is_written_together_and_answered_each_by_itself(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()).merge(poll::router()));
    let (agent, other, revoked) = (app.agent("a").await, app.agent("b").await, app.agent("c").await);
    let mut blocked = Vec::new();
    for number in 0..WRITERS {
        blocked.push(delivered(&app, &agent, &format!("blocked-{number}")).await);
    }
    let (accepted, twice) = (delivered(&app, &agent, "accepted").await, delivered(&app, &agent, "twice").await);
    let (retried, failed) = (delivered(&app, &agent, "retried").await, delivered(&app, &agent, "failed").await);
    let (mut stale, refused) = (delivered(&app, &agent, "stale").await, delivered(&app, &revoked, "refused").await);
    stale["delivery_id"] = accepted["delivery_id"].clone();
    let (agent_id, key_id) = (revoked.agent_id.parse().unwrap(), revoked.key_id.parse().unwrap());
    assert!(app.state.store.revoke_key(&Scope::of_program("test"), &agent_id, &key_id).await.unwrap());
    app.submit(&other, "first-use").await;

    let mut blocking = owner.begin().await.expect("a transaction");
    let lock = "SELECT FROM hitl_requests WHERE client_request_key LIKE 'blocked-%' FOR UPDATE";
    sqlx::query(lock).execute(&mut *blocking).await.expect("locked");
    let blocked = join_all(blocked.iter().enumerate().map(async |(number, delivery)| {
        until_blocked(&owner, number).await;
        ack(&app, &agent, delivery, "accepted").await
    }));
    let together = async {
        until_blocked(&owner, WRITERS).await;
        join_all([
            ack(&app, &agent, &accepted, "accepted"),
            ack(&app, &other, &twice, "accepted"),
            ack(&app, &agent, &twice, "accepted"),
            ack(&app, &agent, &twice, "accepted"),
            ack(&app, &agent, &retried, "retry"),
            ack(&app, &agent, &failed, "failed"),
            ack(&app, &agent, &stale, "accepted"),
            ack(&app, &revoked, &refused, "accepted"),
        ])
        .await
    };
    let release = async {
        until(async || app.state.store.waiting() == WRITERS + 8).await;
        blocking.rollback().await.expect("released");
    };
    let (blocked, answers, ()) = tokio::join!(blocked, together, release);
    assert!(blocked.iter().all(|(status, _)| *status == 200));
    let statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 404, 200, 200, 200, 200, 409, 401]);
    let states = [0, 2, 3, 4, 5].map(|index: usize| answers[index].1["state"].as_str().expect("a state"));
    assert_eq!(states, ["acknowledged", "acknowledged", "acknowledged", "ready", "dead_lettered"]);
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM approval_chain WHERE kind = 'acknowledged'")
        .fetch_one(&owner)
        .await
        .expect("a count");
    assert_eq!(entries, i64::try_from(WRITERS).expect("few") + 2, "each once");
}
