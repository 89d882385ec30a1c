//! Polling and acknowledging against a real database, and real NATS for wake-ups between processes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use relaytrace_service::events::WaitsFor;
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{NO_NATS, TestAgent, TestApp, until};
use serde_json::{Value, json};
use sqlx::PgPool;

fn routes() -> Routes {
    ingest::router().merge(decide::router()).merge(poll::router())
}

async fn app(owner: PgPool) -> (TestApp, TestAgent) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    (app, agent)
}

async fn decide(app: &TestApp, id: &str) {
    let body = json!({"decision": "approve", "reason": "fine"});
    let answer = app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), &body).await;
    assert_eq!(answer.status, 201);
}

async fn poll(app: &TestApp, agent: &TestAgent, query: &str) -> Vec<Value> {
    let answer = app.get(&format!("/v1/agents/{}/decisions/poll?{query}", agent.agent_id), &agent.token()).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
    answer.json()["decisions"].as_array().expect("a list").clone()
}

async fn ack(app: &TestApp, agent: &TestAgent, delivery: &Value, result: &str) -> relaytrace_testing::Answer {
    let path =
        format!("/v1/agents/{}/decisions/{}/ack", agent.agent_id, delivery["request_id"].as_str().expect("an id"));
    app.post(&path, &agent.token(), &json!({"delivery_id": delivery["delivery_id"], "result": result})).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_is_delivered_with_its_resume_and_ends_when_accepted(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    decide(&app, &id).await;
    let delivered = poll(&app, &agent, "").await;
    assert_eq!(delivered.len(), 1);
    assert_eq!((&delivered[0]["resume"], &delivered[0]["attempt"]), (&json!({"step": 3}), &json!(1)));
    for _ in 0..2 {
        let answer = ack(&app, &agent, &delivered[0], "accepted").await.json();
        assert_eq!((answer["state"].as_str(), answer["attempt"].as_i64()), (Some("acknowledged"), Some(1)));
    }
    app.advance(3_600.0);
    assert!(poll(&app, &agent, "").await.is_empty());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn concurrent_polls_get_disjoint_sets(owner: PgPool) {
    let (app, agent) = app(owner).await;
    for number in 0..40 {
        let id = app.submit(&agent, &format!("k{number}")).await;
        decide(&app, &id).await;
    }
    let polls = join_all((0..20).map(|_| poll(&app, &agent, "limit=3"))).await;
    let mut ids: Vec<_> = polls.iter().flatten().map(|item| item["request_id"].as_str().unwrap()).collect();
    let delivered = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(delivered, ids.len(), "a decision was leased to two polls");
    // Twenty polls of three each can take all forty; one that finds a row locked passes it over.
    assert!(delivered >= 20, "{delivered} of 40 decisions were leased by 20 polls of 3");
    let shared = polls.iter().filter(|poll| !poll.is_empty()).count();
    assert!(shared > 1, "one poll took everything: nothing was concurrent");
    // What they passed over is due still.
    let rest = poll(&app, &agent, "limit=100").await;
    assert_eq!(delivered + rest.len(), 40);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_lease_that_is_over_is_delivered_again_and_the_old_one_is_stale(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    decide(&app, &id).await;
    let first = poll(&app, &agent, "").await.remove(0);
    app.advance(29.0);
    assert!(poll(&app, &agent, "").await.is_empty());
    // The lease, and at most a second of backoff after the first attempt.
    app.advance(2.1);
    let second = poll(&app, &agent, "").await.remove(0);
    assert_eq!(second["attempt"], 2);
    assert_eq!(ack(&app, &agent, &first, "accepted").await.code(), "stale-delivery");
    app.advance(31.0);
    assert_eq!(ack(&app, &agent, &second, "accepted").await.status, 200, "the latest is good even after its lease");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_twentieth_retry_dead_letters_and_each_backs_off_at_most_as_long_as_promised(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    decide(&app, &id).await;
    for attempt in 1..=20_i32 {
        let delivery = poll(&app, &agent, "").await.remove(0);
        assert_eq!(delivery["attempt"], attempt);
        let state = ack(&app, &agent, &delivery, "retry").await.json()["state"].as_str().unwrap().to_owned();
        assert_eq!(state, if attempt == 20 { "dead_lettered" } else { "ready" });
        app.advance(2_f64.powi(attempt - 1).min(300.0));
    }
    assert!(poll(&app, &agent, "").await.is_empty());
    let cause: String = sqlx::query_scalar("SELECT cause FROM dead_letters").fetch_one(&app.owner).await.unwrap();
    assert_eq!(cause, "attempts_exhausted");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_failure_that_will_not_pass_dead_letters_at_once_with_its_error(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    decide(&app, &id).await;
    let delivery = poll(&app, &agent, "").await.remove(0);
    let body = json!({"delivery_id": delivery["delivery_id"], "result": "failed", "error": {"code": "gone", "message": "no such order"}});
    let answer = app.post(&format!("/v1/agents/a/decisions/{id}/ack"), &agent.token(), &body).await;
    assert_eq!(answer.json()["state"], "dead_lettered");
    let error: (String, String, String) = sqlx::query_as("SELECT cause, error_code, error_message FROM dead_letters")
        .fetch_one(&app.owner)
        .await
        .unwrap();
    assert_eq!(error, ("agent_failed".into(), "gone".into(), "no such order".into()));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_accepted_delivery_closes_the_dead_letter_that_a_sweep_made_of_it(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    decide(&app, &id).await;
    let delivery = poll(&app, &agent, "").await.remove(0);
    app.advance(86_400.0);
    assert_eq!(app.state.store.dead_letter_exhausted(10, None).await.unwrap().len(), 1);
    assert_eq!(ack(&app, &agent, &delivery, "accepted").await.json()["state"], "acknowledged");
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL")
        .fetch_one(&app.owner)
        .await
        .unwrap();
    assert_eq!(open, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_poll_takes_only_the_requests_it_names(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let (mine, other) = (app.submit(&agent, "mine").await, app.submit(&agent, "other").await);
    decide(&app, &mine).await;
    decide(&app, &other).await;
    let delivered = poll(&app, &agent, &format!("request_id={}", mine.to_uppercase())).await;
    assert_eq!(delivered.iter().map(|item| item["request_id"].as_str().unwrap()).collect::<Vec<_>>(), [mine]);
}

/// Whether a decision made at `decided_at` wakes a poll that is parked at `parked_at`. What is waited for is the
/// wake-up itself: looking again would not show here.
async fn wakes(parked_at: &TestApp, decided_at: &TestApp, agent: &TestAgent, key: &str) -> bool {
    let id = parked_at.submit(agent, key).await;
    let (agent_id, request_id) = (agent.agent_id.parse().expect("an id"), id.parse().expect("an id"));
    let waits_for = WaitsFor::Delivery(Some(vec![request_id]));
    let mut parked = parked_at.state.events.park(&agent_id, waits_for, 9).expect("a place");
    parked.subscribed().await;
    decide(decided_at, &id).await;
    parked.wait(Duration::from_secs(10)).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_wakes_a_poll_of_its_process_without_nats(owner: PgPool) {
    let (app, agent) = app(owner).await;
    assert!(wakes(&app, &app, &agent, "k").await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_wakes_a_poll_of_another_process_through_nats(owner: PgPool) {
    let nats = std::env::var("NATS_URL").expect("NATS_URL: run `make test`");
    let here = TestApp::with_nats(&owner, routes(), &nats);
    let there = here.another_process(routes(), &nats);
    assert!(here.state.events.is_connected().await && there.state.events.is_connected().await);
    let agent = here.agent(&format!("woken-{}", here.now().timestamp_micros())).await;
    assert!(wakes(&here, &there, &agent, "k").await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_wakes_no_poll_that_waits_for_another_request(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let (mine, other) = (app.submit(&agent, "mine").await, app.submit(&agent, "other").await);
    let agent_id = agent.agent_id.parse().unwrap();
    let for_mine = app.state.events.park(&agent_id, WaitsFor::Delivery(Some(vec![mine.parse().unwrap()])), 9);
    let for_any = app.state.events.park(&agent_id, WaitsFor::Delivery(None), 9).unwrap();
    decide(&app, &other).await;
    assert!(for_any.wait(Duration::from_secs(10)).await);
    assert!(!for_mine.unwrap().wait(Duration::ZERO).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_parked_poll_finds_what_nobody_woke_it_for(owner: PgPool) {
    const WAIT: Duration = Duration::from_secs(20);
    let (app, agent) = app(owner).await;
    // Neither has NATS: nothing tells the first of the other's decision.
    let silent = app.another_process(routes(), NO_NATS);
    let id = app.submit(&agent, "k").await;
    let deciding = async {
        until(async || app.state.events.open_polls(&agent.agent_id.parse().unwrap()) == 1).await;
        decide(&silent, &id).await;
    };
    let started = Instant::now();
    let query = format!("wait_seconds={}", WAIT.as_secs());
    let (delivered, ()) = tokio::join!(poll(&app, &agent, &query), deciding);
    assert_eq!(delivered[0]["request_id"], id.as_str());
    assert!(started.elapsed() < WAIT / 2, "it was found only when the wait was over");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn polling_notes_when_an_agent_was_last_seen_at_most_every_five_seconds(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let seen = async || -> chrono::DateTime<chrono::Utc> {
        sqlx::query_scalar("SELECT last_polled_at FROM agent_polls").fetch_one(&app.owner).await.unwrap()
    };
    poll(&app, &agent, "").await;
    let first = seen().await;
    app.advance(4.0);
    poll(&app, &agent, "").await;
    assert_eq!(seen().await, first);
    app.advance(2.0);
    poll(&app, &agent, "").await;
    assert_eq!(seen().await, app.now());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_changed_entry_is_not_signed(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    decide(&app, &id).await;
    let look = async || app.get(&format!("/v1/agents/a/requests/{id}"), &agent.token()).await;
    let receipt = async || look().await.json()["decision"]["receipt"].as_str().map(str::to_owned);
    // From now on this process knows the receipt's signature.
    assert!(receipt().await.is_some_and(|made| made.len() > 100));
    assert_eq!(receipt().await, receipt().await, "one decision, one receipt");
    // What only the database's owner can do, after taking every guard away.
    for statement in [
        "ALTER TABLE approval_chain DISABLE TRIGGER ALL",
        "ALTER TABLE approval_chain DROP CONSTRAINT approval_chain_sound",
        "UPDATE approval_chain SET entry = convert_to(replace(convert_from(entry, 'UTF8'), 'approved', 'rejected'), 'UTF8')",
    ] {
        sqlx::query(statement).execute(&app.owner).await.unwrap();
    }
    // It is withheld, and holds up nothing that is due beside it.
    let beside = app.submit(&agent, "beside").await;
    decide(&app, &beside).await;
    let given = poll(&app, &agent, "limit=100").await;
    assert_eq!(given.iter().map(|delivery| delivery["request_id"].as_str()).collect::<Vec<_>>(), [Some(&*beside)]);
    let answer = look().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (500, "internal"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn accepted_wins_over_what_was_said_of_the_same_delivery_before(owner: PgPool) {
    let (app, agent) = app(owner).await;
    for said in ["retry", "failed"] {
        let id = app.submit(&agent, said).await;
        decide(&app, &id).await;
        let delivery = poll(&app, &agent, &format!("request_id={id}")).await.remove(0);
        assert_eq!(ack(&app, &agent, &delivery, said).await.status, 200);
        for _ in 0..2 {
            let answer = ack(&app, &agent, &delivery, "accepted").await.json();
            assert_eq!(answer["state"], "acknowledged", "after {said}");
        }
        app.advance(400.0);
        assert!(poll(&app, &agent, &format!("request_id={id}")).await.is_empty(), "{said}: it must not run twice");
    }
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL")
        .fetch_one(&app.owner)
        .await
        .unwrap();
    assert_eq!(open, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn accepted_and_retry_of_one_delivery_at_once_end_it(owner: PgPool) {
    let (app, agent) = app(owner).await;
    for number in 0..10 {
        let id = app.submit(&agent, &format!("k{number}")).await;
        decide(&app, &id).await;
        let delivery = poll(&app, &agent, &format!("request_id={id}")).await.remove(0);
        let (retried, accepted) =
            tokio::join!(ack(&app, &agent, &delivery, "retry"), ack(&app, &agent, &delivery, "accepted"));
        assert_eq!((retried.status.as_u16(), accepted.status.as_u16()), (200, 200));
        assert_eq!(accepted.json()["state"], "acknowledged");
        app.advance(400.0);
        assert!(poll(&app, &agent, &format!("request_id={id}")).await.is_empty());
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn accepted_without_a_delivery_ends_it_whatever_its_attempt(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let path = |id: &str| format!("/v1/agents/a/decisions/{id}/ack");
    let accepted = json!({"result": "accepted"});
    for state in ["never delivered", "leased", "retry", "failed"] {
        let id = app.submit(&agent, &state.replace(' ', "-")).await;
        let pending = app.post(&path(&id), &agent.token(), &accepted).await;
        assert_eq!((pending.status.as_u16(), pending.code().as_str()), (409, "conflict"), "{state}");
        decide(&app, &id).await;
        let mut attempt = 0;
        if state != "never delivered" {
            let delivery = poll(&app, &agent, &format!("request_id={id}")).await.remove(0);
            attempt = 1;
            if state != "leased" {
                assert_eq!(ack(&app, &agent, &delivery, state).await.status, 200);
            }
        }
        for _ in 0..2 {
            let answer = app.post(&path(&id), &agent.token(), &accepted).await;
            assert_eq!(answer.status, 200, "{state}");
            let answer = answer.json();
            assert_eq!(
                (&answer["state"], &answer["attempt"], &answer["delivery_id"]),
                (&json!("acknowledged"), &json!(attempt), &Value::Null),
                "{state}"
            );
        }
        app.advance(400.0);
        assert!(poll(&app, &agent, &format!("request_id={id}")).await.is_empty(), "{state}");
    }
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM approval_chain WHERE kind = 'acknowledged'")
        .fetch_one(&app.owner)
        .await
        .unwrap();
    assert_eq!(entries, 4, "each once");
}

async fn look(app: &TestApp, agent: &TestAgent, id: &str, query: &str) -> Value {
    let answer = app.get(&format!("/v1/agents/{}/requests/{id}?{query}", agent.agent_id), &agent.token()).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
    answer.json()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_look_returns_with_the_decision_and_costs_no_poll_its_wake_up(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    let agent_id = agent.agent_id.parse().unwrap();
    let (first, second) = (WaitsFor::Decision(id.parse().unwrap()), WaitsFor::Delivery(None));
    let other = WaitsFor::Decision(app.submit(&agent, "other").await.parse().unwrap());
    // In line before the poll.
    let looking = app.state.events.park(&agent_id, first, 9).unwrap();
    let polling = app.state.events.park(&agent_id, second, 9).unwrap();
    let elsewhere = app.state.events.park(&agent_id, other, 9).unwrap();
    let deciding = async {
        until(async || app.state.events.parked(&agent_id) == 4).await;
        decide(&app, &id).await;
    };
    let (seen, ()) = tokio::join!(look(&app, &agent, &id, "wait_seconds=55"), deciding);
    assert_eq!((&seen["status"], &seen["decision"]["outcome"]), (&json!("decided"), &json!("approved")));
    assert_eq!(seen["decision"].get("delivery_id"), None);
    assert!(looking.wait(Duration::from_secs(10)).await && polling.wait(Duration::from_secs(10)).await);
    assert!(!elsewhere.wait(Duration::ZERO).await);
    assert_eq!(poll(&app, &agent, "").await[0]["attempt"], 1, "looking took nothing");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_call_too_many_does_not_wait(owner: PgPool) {
    let delivery = relaytrace_domain::DeliveryRules { max_parked_per_agent: 2, ..Default::default() };
    let app = TestApp::delivering(&owner, routes(), delivery);
    let agent = app.agent("a").await;
    let (id, agent_id) = (app.submit(&agent, "k").await, agent.agent_id.parse().unwrap());
    let place = || app.state.events.park(&agent_id, WaitsFor::Delivery(None), 2).expect("a place");
    let parked = [place(), place()];
    for path in ["decisions/poll", &format!("requests/{id}")] {
        let refused = app.get(&format!("/v1/agents/a/{path}?wait_seconds=9"), &agent.token()).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate-limited"));
        assert!(refused.headers.contains_key("retry-after"));
        assert_eq!(
            app.get(&format!("/v1/agents/a/{path}"), &agent.token()).await.status,
            200,
            "which waits for nothing"
        );
    }
    // One that was woken and reads again waits as before.
    decide(&app, &id).await;
    assert_eq!(app.state.events.parked(&agent_id), 2);
    drop(parked);
    assert_eq!(app.state.events.parked(&agent_id), 0);
    assert_eq!(poll(&app, &agent, "wait_seconds=1").await.len(), 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_agent_lists_what_is_pending_page_by_page_in_the_queues_order(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let other = app.agent("b").await;
    let mut wanted = Vec::new();
    for (number, priority) in ["P3", "P1", "P2", "P1", "P3"].iter().enumerate() {
        app.submit(&other, &format!("theirs-{number}")).await;
        let mut envelope = agent.envelope(&format!("k{number}"));
        envelope["priority"] = json!(priority);
        let submitted = app.post("/v1/hitl/requests", &agent.token(), &envelope).await.json();
        wanted.push((priority.to_string(), number, submitted["request_id"].as_str().unwrap().to_owned()));
        app.advance(1.0);
    }
    let decided = app.submit(&agent, "decided").await;
    decide(&app, &decided).await;
    wanted.sort();
    let mut listed = Vec::new();
    let mut path = "/v1/agents/a/requests?status=pending&limit=2".to_owned();
    loop {
        let page = app.get(&path, &agent.token()).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2 && page["agent_id"] == "a");
        listed.extend(items.iter().map(|item| item["request_id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/agents/a/requests?status=pending&limit=2&cursor={cursor}");
    }
    assert_eq!(listed, wanted.into_iter().map(|(_, _, id)| id).collect::<Vec<_>>());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_others_have_pending_does_not_hide_an_agents_own(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let mine = app.submit(&agent, "mine").await;
    // Twelve thousand of another agent's come before it in the queue.
    let others = "INSERT INTO hitl_requests (request_id, agent_id, client_request_key, priority, title, action_type,
            action_digest, created_at, respond_by, on_timeout, changed_at, chain_length, chain_head)
        SELECT gen_random_uuid(), 'b', 'k' || n, 1, 't', 'x', sha256(''), created_at, respond_by, on_timeout, changed_at,
            1, chain_head
        FROM hitl_requests, generate_series(1, 12000) n";
    sqlx::query(others).execute(&app.owner).await.unwrap();
    let (mut pages, mut found) = (0, Vec::new());
    let mut path = "/v1/agents/a/requests".to_owned();
    loop {
        let page = app.get(&path, &agent.token()).await.json();
        pages += 1;
        found.extend(page["items"].as_array().unwrap().iter().map(|item| item["request_id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/agents/a/requests?cursor={cursor}");
    }
    assert_eq!((pages, found), (3, vec![json!(mine)]), "5,000 are looked through for each page");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_retry_lets_a_parked_poll_look_when_it_is_due(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    decide(&app, &id).await;
    let delivered = poll(&app, &agent, "").await;
    let parked = app.state.events.park(&"a".parse().unwrap(), WaitsFor::Delivery(None), 9).unwrap();
    let answer = ack(&app, &agent, &delivered[0], "retry").await.json();
    assert_eq!(answer["state"], "ready");
    assert!(parked.wait(Duration::from_secs(10)).await, "nobody told it");
}
