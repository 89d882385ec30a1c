//! A decision that finds its agent waiting in the same process: one statement decides and delivers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestAgent, TestApp, until, until_blocked, until_none_blocked};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinHandle;

struct Waiting {
    app: Arc<TestApp>,
    agent: TestAgent,
}

impl Waiting {
    async fn new(owner: &PgPool) -> Self {
        let app = Arc::new(TestApp::new(owner, ingest::router().merge(decide::router()).merge(poll::router())));
        let agent = app.agent("a").await;
        // The key is looked up once, and noted as used.
        app.submit(&agent, "first").await;
        app.submit(&agent, "second").await;
        Self { app, agent }
    }

    /// A poll that waits. Unless it names one request its look is over, and nothing was there.
    async fn park(&self, query: &str) -> JoinHandle<Value> {
        let (app, token) = (self.app.clone(), self.agent.token());
        let path = format!("/v1/agents/a/decisions/poll?wait_seconds=30&{query}");
        let before = self.waiting();
        let poll = tokio::spawn(async move { app.get(&path, &token).await.json() });
        until(async || self.waiting() == before + 1).await;
        poll
    }

    /// Polls that wait for a lease.
    fn waiting(&self) -> usize {
        self.app.state.events.open_polls(&"a".parse().expect("it is there"))
    }

    async fn decide(&self, id: &str, digest: &str) -> u16 {
        let body = json!({"decision": "approve", "action_digest": digest});
        let path = format!("/v1/hitl/requests/{id}/decision");
        self.app.post(&path, &self.app.operator("maria"), &body).await.status.as_u16()
    }

    async fn digest(&self, id: &str) -> String {
        let detail = self.app.get(&format!("/v1/hitl/requests/{id}"), &self.app.operator("maria")).await.json();
        detail["action_digest"].as_str().expect("it is there").to_owned()
    }

    /// How often the role has sent `statement`.
    async fn calls(&self, statement: &str) -> i64 {
        let calls = "SELECT COALESCE(sum(calls), 0)::bigint FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND query LIKE '/* relaytrace: ' || $1 || ' */%'";
        sqlx::query_scalar(calls).bind(statement).fetch_one(&self.app.owner).await.expect("it is there")
    }

    async fn delivery(&self, id: &str) -> (String, i32) {
        let delivery = "SELECT state, attempt FROM deliveries WHERE request_id = $1::uuid";
        sqlx::query_as(delivery).bind(id).fetch_one(&self.app.owner).await.expect("it is there")
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_decisions_own_statement_delivers_to_a_poll_that_waits(owner: PgPool) {
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&owner).await.expect("the extension");
    let waiting = Waiting::new(&owner).await;
    for number in 0..3 {
        let id = waiting.app.submit(&waiting.agent, &format!("k{number}")).await;
        let digest = waiting.digest(&id).await;
        let query = if number == 1 { format!("request_id={id}") } else { String::new() };
        let poll = waiting.park(&query).await;
        let (leases, decisions) = (waiting.calls("lease").await, waiting.calls("decide").await);
        assert_eq!(waiting.decide(&id, &digest).await, 201);
        let polled = poll.await.unwrap();
        let delivery = &polled["decisions"][0];
        assert_eq!(polled["decisions"].as_array().unwrap().len(), 1);
        assert_eq!((&delivery["request_id"], &delivery["attempt"]), (&json!(id), &json!(1)));
        assert_eq!(waiting.calls("lease").await, leases, "the poll has sent no statement");
        assert_eq!(waiting.calls("decide").await, decisions + 1);
        // As a look tells it, but for the lease.
        let seen = waiting.app.get(&format!("/v1/agents/a/requests/{id}"), &waiting.agent.token()).await.json();
        let mut told = delivery.clone();
        let lease: Vec<_> =
            ["delivery_id", "lease_expires_at"].map(|name| told.as_object_mut().unwrap().remove(name)).into();
        assert!(lease.iter().all(Option::is_some));
        for member in
            ["outcome", "reason", "decided_at", "action_digest", "resume", "permit", "client_request_key", "chain"]
        {
            assert_eq!(told.get(member), seen["decision"].get(member), "{member}");
        }
        let path = format!("/v1/agents/a/decisions/{id}/ack");
        let body = json!({"delivery_id": delivery["delivery_id"], "result": "accepted"});
        assert_eq!(waiting.app.post(&path, &waiting.agent.token(), &body).await.status, 200);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_poll_of_one_request_is_delivered_to_while_it_looks(owner: PgPool) {
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&owner).await.expect("the extension");
    let waiting = Waiting::new(&owner).await;
    let id = waiting.app.submit(&waiting.agent, "k").await;
    let digest = waiting.digest(&id).await;
    // Its look waits for the row in which it notes that the agent has polled.
    let mut noting = owner.begin().await.unwrap();
    sqlx::query("INSERT INTO agent_polls VALUES ('a', now())").execute(&mut *noting).await.unwrap();
    let poll = waiting.park(&format!("request_id={id}")).await;
    until_blocked(&owner, 1).await;
    assert_eq!(waiting.decide(&id, &digest).await, 201);
    assert_eq!(waiting.delivery(&id).await, ("leased".to_owned(), 1));
    noting.rollback().await.unwrap();
    let polled = poll.await.unwrap();
    let delivery = &polled["decisions"][0];
    assert_eq!((&delivery["request_id"], &delivery["attempt"]), (&json!(id), &json!(1)), "{polled}");
    assert_eq!(waiting.calls("lease_named").await, 1, "it has looked once");
    // The lease is its own: it can acknowledge.
    let path = format!("/v1/agents/a/decisions/{id}/ack");
    let body = json!({"delivery_id": delivery["delivery_id"], "result": "accepted"});
    assert_eq!(waiting.app.post(&path, &waiting.agent.token(), &body).await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_look_was_handed_is_its_answer_though_its_time_is_over_or_it_failed(owner: PgPool) {
    let waiting = Waiting::new(&owner).await;
    for fails in [false, true] {
        let id = waiting.app.submit(&waiting.agent, &format!("k{fails}")).await;
        let digest = waiting.digest(&id).await;
        sqlx::query("DELETE FROM agent_polls").execute(&owner).await.unwrap();
        let mut noting = owner.begin().await.unwrap();
        sqlx::query("INSERT INTO agent_polls VALUES ('a', now())").execute(&mut *noting).await.unwrap();
        let (app, token) = (waiting.app.clone(), waiting.agent.token());
        let path = format!("/v1/agents/a/decisions/poll?wait_seconds=1&request_id={id}");
        let poll = tokio::spawn(async move { app.get(&path, &token).await.json() });
        until_blocked(&owner, 1).await;
        let looking_since = Instant::now();
        assert_eq!(waiting.decide(&id, &digest).await, 201);
        if fails {
            // A look waits so long for a lock and no longer.
            until_none_blocked(&owner).await;
        } else {
            until(async || looking_since.elapsed() > Duration::from_secs(1)).await;
        }
        noting.rollback().await.unwrap();
        let polled = poll.await.unwrap();
        assert_eq!(polled["decisions"][0]["request_id"], id, "{fails}: {polled}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_poll_whose_caller_is_gone_costs_no_attempt(owner: PgPool) {
    let waiting = Waiting::new(&owner).await;
    for number in 0..20_u64 {
        let id = waiting.app.submit(&waiting.agent, &format!("k{number}")).await;
        let digest = waiting.digest(&id).await;
        let poll = waiting.park(&format!("request_id={id}")).await;
        // Before, amid and after the statement.
        let hang_up = async {
            for _ in 0..20 * number {
                tokio::task::yield_now().await;
            }
            poll.abort();
            poll.await
        };
        let (decided, hung_up) = tokio::join!(waiting.decide(&id, &digest), hang_up);
        assert_eq!(decided, 201);
        let Err(_) = hung_up else { continue };
        // Whatever was leased to it is given back, and somebody else has it at once.
        let path = format!("/v1/agents/a/decisions/poll?wait_seconds=20&request_id={id}");
        let polled = waiting.app.get(&path, &waiting.agent.token()).await.json();
        assert_eq!(polled["decisions"][0]["attempt"], 1, "{number}: {polled}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_that_is_revoked_meanwhile_gets_nothing(owner: PgPool) {
    let waiting = Waiting::new(&owner).await;
    let id = waiting.app.submit(&waiting.agent, "k").await;
    let digest = waiting.digest(&id).await;
    let poll = waiting.park("").await;
    sqlx::query("UPDATE agent_keys SET revoked_at = now()").execute(&waiting.app.owner).await.unwrap();
    assert_eq!(waiting.decide(&id, &digest).await, 201);
    assert_eq!(waiting.delivery(&id).await, ("ready".to_owned(), 0));
    assert_eq!(poll.await.unwrap()["code"], "unauthenticated");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_that_does_not_happen_costs_a_poll_nothing(owner: PgPool) {
    let waiting = Waiting::new(&owner).await;
    let ids = join_all(["k", "l"].map(|key| waiting.app.submit(&waiting.agent, key))).await;
    let digest = waiting.digest(&ids[0]).await;
    let poll = waiting.park("").await;
    let other = format!("sha256:{}", "0".repeat(64));
    assert_eq!(waiting.decide(&ids[0], &other).await, 409);
    assert_eq!(waiting.decide(&ids[1], &digest).await, 201);
    let polled = poll.await.unwrap();
    assert_eq!(polled["decisions"][0]["request_id"], ids[1]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn polls_and_decisions_at_once_are_each_others_once(owner: PgPool) {
    let waiting = Waiting::new(&owner).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(waiting.app.submit(&waiting.agent, &format!("k{number}")).await);
    }
    let digest = waiting.digest(&ids[0]).await;
    let mut polls = Vec::new();
    for _ in &ids {
        let (app, token) = (waiting.app.clone(), waiting.agent.token());
        let path = "/v1/agents/a/decisions/poll?wait_seconds=30&limit=1";
        polls.push(tokio::spawn(async move { app.get(path, &token).await.json() }));
    }
    until(async || waiting.waiting() == ids.len()).await;
    let decided = join_all(ids.iter().map(|id| waiting.decide(id, &digest))).await;
    assert!(decided.iter().all(|status| *status == 201));
    let mut told = Vec::new();
    for poll in polls {
        let polled = poll.await.unwrap();
        told.push(polled["decisions"][0]["request_id"].as_str().expect("a decision").to_owned());
    }
    told.sort();
    let mut wanted = ids.clone();
    wanted.sort();
    assert_eq!(told, wanted);
}
