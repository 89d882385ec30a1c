//! Acknowledgements and polls that wait for one another: one statement, answered each by itself.

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

/// Statements of polls that this database has seen.
async fn leases(owner: &PgPool) -> i64 {
    let calls = "SELECT COALESCE(sum(calls), 0)::bigint FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND toplevel AND query LIKE '/* relaytrace: lease */%'";
    sqlx::query_scalar(calls).fetch_one(owner).await.expect("a count")
}

async fn poll(app: &TestApp, agent: &TestAgent) -> (u16, Value) {
    let answer = app.get(&format!("/v1/agents/{}/decisions/poll?limit=1", agent.agent_id), &agent.token()).await;
    (answer.status.as_u16(), answer.json())
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn polls_that_wait_look_together_and_get_each_their_own(owner: PgPool) {
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&owner).await.expect("the extension");
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()).merge(poll::router()));
    let (two, one, none, revoked) =
        (app.agent("two").await, app.agent("one").await, app.agent("none").await, app.agent("revoked").await);
    let mut ids = Vec::new();
    for (agent, key) in [(&two, "first"), (&two, "second"), (&one, "first"), (&revoked, "first")] {
        let id = app.submit(agent, key).await;
        let path = format!("/v1/hitl/requests/{id}/decision");
        assert_eq!(app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await.status, 201);
        ids.push(id);
    }
    let (agent_id, key_id) = (revoked.agent_id.parse().unwrap(), revoked.key_id.parse().unwrap());
    assert!(app.state.store.revoke_key(&Scope::of_program("test"), &agent_id, &key_id).await.unwrap());
    app.submit(&none, "first-use").await;
    let mut blocking = owner.begin().await.expect("a transaction");
    let mut blocked = Vec::new();
    for number in 0..WRITERS {
        let agent = app.agent(&format!("blocked-{number}")).await;
        // The note of its first poll waits for this one's.
        let note = "INSERT INTO agent_polls (agent_id, last_polled_at) VALUES ($1, now())";
        sqlx::query(note).bind(&agent.agent_id).execute(&mut *blocking).await.expect("noted");
        blocked.push(agent);
    }
    let blocked = join_all(blocked.iter().enumerate().map(async |(number, agent)| {
        until_blocked(&owner, number).await;
        poll(&app, agent).await
    }));
    let together = async {
        until_blocked(&owner, WRITERS).await;
        join_all([poll(&app, &two), poll(&app, &one), poll(&app, &none), poll(&app, &revoked), poll(&app, &two)]).await
    };
    let release = async {
        until(async || app.state.store.waiting() == WRITERS + 5).await;
        blocking.rollback().await.expect("released");
    };
    let (blocked, answers, ()) = tokio::join!(blocked, together, release);
    assert!(blocked.iter().all(|(status, polled)| *status == 200 && polled["decisions"] == json!([])));
    let given: Vec<_> = answers
        .iter()
        .map(|(status, polled)| {
            (*status, polled["decisions"][0]["request_id"].as_str().map(str::to_owned), polled["has_more"].as_bool())
        })
        .collect();
    assert_eq!(
        given,
        [
            (200, Some(ids[0].clone()), Some(true)),
            (200, Some(ids[2].clone()), Some(false)),
            (200, None, Some(false)),
            (401, None, None),
            (200, Some(ids[1].clone()), Some(false)),
        ]
    );
    // The second poll of one agent has a statement of its own.
    assert_eq!(leases(&owner).await, i64::try_from(WRITERS).expect("few") + 2);
}
