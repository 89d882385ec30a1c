//! Replaying against real Postgres and NATS.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::future::join_all;
use relaytrace_domain::{
    Actor, ActorKind, Json, ReplayScope, ReplayState, ReplayTarget, RequestId, TenantId, Timestamp, action_digest,
    mint_uuid,
};
use relaytrace_servers::{Durability, Nats};
use relaytrace_service::events::{STREAM, WaitsFor};
use relaytrace_service::http::Routes;
use relaytrace_store::{MIGRATOR, ReplayOrder, Scope};
use relaytrace_testing::{Answer, TestAgent, TestApp, until};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

fn routes() -> Routes {
    ingest::router()
        .merge(decide::router())
        .merge(poll::router())
        .merge(timeout_sweep::router())
        .merge(replay::router())
}

async fn count(owner: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(owner).await.expect("a count")
}

async fn decided(app: &TestApp, agent: &TestAgent, key: &str) -> String {
    let id = app.submit(agent, key).await;
    let body = json!({"decision": "approve"});
    assert_eq!(app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), &body).await.status, 201);
    id
}

async fn poll(app: &TestApp, agent: &TestAgent) -> Vec<Value> {
    let path = format!("/v1/agents/{}/decisions/poll?limit=100", agent.agent_id);
    app.get(&path, &agent.token()).await.json()["decisions"].as_array().expect("decisions").clone()
}

async fn acknowledge(app: &TestApp, agent: &TestAgent, delivery: &Value, result: &str) -> Answer {
    let request_id = delivery["request_id"].as_str().expect("an id");
    let path = format!("/v1/agents/{}/decisions/{request_id}/ack", agent.agent_id);
    app.post(&path, &agent.token(), &json!({"delivery_id": delivery["delivery_id"], "result": result})).await
}

fn order(key: &str, target: &str, scope: &Value) -> Value {
    json!({"replay_key": key, "target": target, "scope": scope, "reason": "the agent lost its disk"})
}

async fn replay(app: &TestApp, order: &Value) -> Answer {
    app.post("/v1/admin/replay", &app.person("ada", &["admin"]), order).await
}

fn ada() -> Scope {
    let actor = Actor { kind: ActorKind::Admin, id: "ada".into(), name: None, acts_for: None };
    Scope { tenant: TenantId::default(), actor, known_as: Vec::new(), groups: Vec::new() }
}

/// An order whose process died before its first batch.
async fn only_ordered(app: &TestApp, key: &str, scope: &ReplayScope) -> Uuid {
    let ordered = ReplayOrder {
        replay_id: mint_uuid(app.now()),
        replay_key: &key.parse().expect("a key"),
        target: ReplayTarget::Deliveries,
        scope,
        reason: "the agent lost its disk",
        by: &ada(),
        dry_run: false,
    };
    let (replay, is_new) = app.state.store.order_replay(&ordered).await.expect("an order");
    assert!(is_new);
    replay.replay_id
}

async fn shown(app: &TestApp, replay: &Value) -> Value {
    let path = format!("/v1/admin/replays/{}", replay["replay_id"].as_str().expect("an id"));
    app.get(&path, &app.person("ada", &["admin"])).await.json()
}

/// Messages of the stream by id: what was stored, as often as it was.
async fn messages(url: &str) -> BTreeMap<String, Vec<(String, Vec<u8>)>> {
    let client = async_nats::connect(url).await.expect("NATS");
    let stream = jetstream::new(client).get_stream(STREAM).await.expect("the stream");
    let last = stream.get_info().await.expect("its state").state.last_sequence;
    let mut messages: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.expect("a message");
        let id = message.headers.get("Nats-Msg-Id").expect("an id").to_string();
        messages.entry(id).or_default().push((message.subject.to_string(), message.payload.to_vec()));
    }
    messages
}

async fn until_published(app: &TestApp) {
    until(async || {
        app.advance(31.0);
        Box::pin(timeout_sweep::run_once(app.state.clone())).await.expect("a sweep");
        count(&app.owner, "SELECT count(*) FROM outbox").await == 0
    })
    .await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_wiped_stream_gets_each_event_back_once_with_the_same_bytes(owner: PgPool) {
    let folder = relaytrace_servers::scratch_folder().unwrap();
    let nats = Nats::start(&folder.path().join("nats"), Durability::Throwaway).unwrap();
    let app = TestApp::with_nats(&owner, routes(), &nats.url());
    let agent = app.agent("a").await;
    let from = app.now() - std::time::Duration::from_secs(1);
    for number in 0..5 {
        decided(&app, &agent, &format!("k{number}")).await;
    }
    let mut deliveries = poll(&app, &agent).await;
    assert_eq!(acknowledge(&app, &agent, &deliveries.pop().unwrap(), "accepted").await.status, 200);
    assert_eq!(acknowledge(&app, &agent, &deliveries.pop().unwrap(), "failed").await.status, 200);
    app.submit(&agent, "escalated").await;
    app.advance(7_200.0);
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().escalated, 1);
    let letters = order("letters", "deliveries", &json!({"dead_letters": true}));
    assert_eq!(replay(&app, &letters).await.json()["done"], 1);
    until_published(&app).await;
    let before = messages(&nats.url()).await;
    assert_eq!(before.len(), 15);

    let client = async_nats::connect(nats.url()).await.unwrap();
    jetstream::new(client).delete_stream(STREAM).await.unwrap();
    let period = json!({"agent_id": "a", "from": from, "to": app.now() + Duration::from_secs(1)});
    let replayed = replay(&app, &order("events", "events", &period)).await.json();
    assert_eq!((&replayed["state"], &replayed["matched"]), (&json!("finished"), &json!(15)));
    until_published(&app).await;
    assert_eq!(messages(&nats.url()).await, before);

    // Once more, within the stream's duplicate window: nothing is doubled.
    assert_eq!(replay(&app, &order("again", "events", &period)).await.json()["done"], 15);
    until_published(&app).await;
    assert_eq!(messages(&nats.url()).await, before);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_has_the_priority_of_its_entry(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = app.submit(&agent, "k").await;
    let append = "WITH entry AS (
            SELECT *, chain_entry(request_id, 2, 'reprioritised', changed_at, chain_actor('admin', 'ada', NULL),
                '\"priority\":\"P1\"') AS entry FROM hitl_requests
        ), chain AS (
            INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
            SELECT request_id, 2, 'reprioritised', changed_at, entry, chain_head, sha256(chain_head || entry) FROM entry
        )
        UPDATE hitl_requests r SET priority = 1, chain_length = 2, chain_head = sha256(e.chain_head || e.entry)
        FROM entry e WHERE r.request_id = e.request_id";
    sqlx::query(append).execute(&app.owner).await.unwrap();
    app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), &json!({"decision": "approve"}))
        .await;
    let outbox = "SELECT string_agg(kind || convert_from(payload, 'UTF8'), ' ' ORDER BY seq) FROM outbox";
    let before: String = sqlx::query_scalar(outbox).fetch_one(&app.owner).await.unwrap();
    assert!(before.contains(r#""priority":"P2""#) && before.contains(r#""priority":"P1""#));
    sqlx::query("DELETE FROM outbox").execute(&app.owner).await.unwrap();
    assert_eq!(replay(&app, &order("k", "events", &json!({"request_ids": [id]}))).await.json()["done"], 2);
    let after: String = sqlx::query_scalar(outbox).fetch_one(&app.owner).await.unwrap();
    assert_eq!(before, after);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn from_an_edit_on_every_event_has_the_approved_actions_digest(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let edited = async |key: &str, digest: &str| {
        let mut envelope = agent.envelope(key);
        envelope["answers"] = json!(["approve", "reject", "edit"]);
        let asked = app.post("/v1/hitl/requests", &agent.token(), &envelope).await.json();
        let id = asked["request_id"].as_str().expect("an id").to_owned();
        let body = json!({"decision": "edit", "arguments": {"amount": "1"}, "edited_action_digest": digest});
        let decided = app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), &body).await;
        assert_eq!(decided.status, 201, "{}", String::from_utf8_lossy(&decided.bytes));
        (id, asked["action_digest"].as_str().expect("a digest").to_owned())
    };
    let action = Json::parse(br#"{"type": "refund.create", "arguments": {"amount": "1"}}"#).unwrap();
    let digest = action_digest(&action).to_string();
    let (used, asked) = edited("used", &digest).await;
    let (silent, _) = edited("silent", &digest).await;
    let (failed, _) = edited("failed", &digest).await;
    let deliveries = poll(&app, &agent).await;
    let delivery = |id: &str| deliveries.iter().find(|it| it["request_id"] == id).expect("a delivery");
    assert_eq!(acknowledge(&app, &agent, delivery(&silent), "accepted").await.status, 200);
    assert_eq!(acknowledge(&app, &agent, delivery(&failed), "failed").await.status, 200);
    let letters = order("letters", "deliveries", &json!({"dead_letters": true}));
    assert_eq!(replay(&app, &letters).await.json()["done"], 1);
    let named = order("named", "deliveries", &json!({"request_ids": [silent]}));
    assert_eq!(replay(&app, &named).await.json()["done"], 1);
    for id in [&used, &silent] {
        let path = format!("/v1/agents/a/requests/{id}/consume");
        let body = json!({"consume_key": "k".repeat(16), "action_digest": digest});
        assert_eq!(app.post(&path, &agent.token(), &body).await.status, 200);
    }
    let report = json!({"state": "succeeded"});
    assert_eq!(app.post(&format!("/v1/agents/a/requests/{used}/outcome"), &agent.token(), &report).await.status, 200);
    // Nobody reports the other, and nobody accepts what was sent again.
    app.advance(2.0 * 86_400.0);
    let report = timeout_sweep::run_once(app.state.clone()).await.unwrap();
    assert_eq!((report.outcomes_unknown, report.dead_lettered), (1, 1));

    let told = async || -> Vec<(String, String)> {
        let query = "SELECT kind, convert_from(payload, 'UTF8') FROM outbox ORDER BY request_id, seq";
        sqlx::query_as(query).fetch_all(&app.owner).await.unwrap()
    };
    let before = told().await;
    let mut kinds = std::collections::BTreeSet::new();
    for (kind, payload) in &before {
        let event: Value = serde_json::from_str(payload).unwrap();
        let expected = if kind == "requested" { &asked } else { &digest };
        assert_eq!(event["data"]["action_digest"], **expected, "{kind}");
        kinds.insert(kind.as_str());
    }
    let all = ["acknowledged", "consumed", "dead_lettered", "decided", "outcome", "replayed", "requested"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
    // Rebuilt from the chain they have the same bytes.
    sqlx::query("DELETE FROM outbox").execute(&app.owner).await.unwrap();
    let events = order("events", "events", &json!({"request_ids": [used, silent, failed]}));
    assert_eq!(replay(&app, &events).await.json()["done"], before.len());
    assert_eq!(told().await, before);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_replay_cut_off_in_the_middle_is_finished_by_the_sweep(owner: PgPool) {
    const DECIDED: usize = 40;
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let mut ids = Vec::new();
    for number in 0..DECIDED {
        ids.push(decided(&app, &agent, &format!("k{number}")).await);
    }
    let scope = json!({"request_ids": ids});
    let mut request_ids: Vec<RequestId> = ids.iter().map(|id| id.parse().unwrap()).collect();
    request_ids.sort_unstable();
    let replay_id = only_ordered(&app, "cut", &ReplayScope::Requests { request_ids }).await;
    let store = &app.state.store;
    while count(&app.owner, "SELECT done FROM replays").await < 14 {
        store.advance_replay(replay_id, 7).await.unwrap();
        // Whoever is at a batch is gone after a moment, wherever it was.
        drop(tokio::time::timeout(Duration::from_micros(500), store.advance_replay(replay_id, 2)).await);
    }
    let done = count(&app.owner, "SELECT done FROM replays").await;
    assert!(done < 40, "{done}");
    // Two sweeps at once, and one more.
    let sweeps = join_all((0..2).map(|_| timeout_sweep::run_once(app.state.clone()))).await;
    assert!(sweeps.into_iter().all(|sweep| sweep.is_ok()));
    timeout_sweep::run_once(app.state.clone()).await.unwrap();
    assert_eq!(store.replay(&ada(), replay_id).await.unwrap().unwrap().state, ReplayState::Finished);
    let replayed = replay(&app, &order("cut", "deliveries", &scope)).await;
    assert_eq!(replayed.json()["state"], "finished");
    assert_eq!((&replayed.json()["matched"], &replayed.json()["done"]), (&json!(DECIDED), &json!(DECIDED)));
    assert_eq!(count(&app.owner, "SELECT count(*) FROM approval_chain WHERE kind = 'replayed'").await, 40);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn workers_at_once_replay_nothing_twice(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    for number in 0..30 {
        decided(&app, &agent, &format!("k{number}")).await;
    }
    let period = json!({"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
    let order = order("race", "deliveries", &period);
    let answers = join_all((0..8).map(|_| replay(&app, &order))).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    let ids: std::collections::BTreeSet<_> =
        answers.iter().map(|answer| answer.json()["replay_id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(shown(&app, &answers[0].json()).await["done"], 30);
    assert_eq!(count(&app.owner, "SELECT count(*) FROM approval_chain WHERE kind = 'replayed'").await, 30);
    assert_eq!(count(&app.owner, "SELECT count(*) FROM replays").await, 1);

    let scope = ReplayScope::Period {
        agent_id: None,
        from: "2000-01-01T00:00:00Z".parse().unwrap(),
        to: Timestamp(app.now() + Duration::from_secs(1)),
    };
    let replay_id = only_ordered(&app, "workers", &scope).await;
    while app.state.store.replay(&ada(), replay_id).await.unwrap().unwrap().state == ReplayState::Running {
        let steps = (0..10).map(|_| app.state.store.advance_replay(replay_id, 3));
        assert!(join_all(steps).await.into_iter().all(|step| step.is_ok()));
    }
    assert_eq!(app.state.store.replay(&ada(), replay_id).await.unwrap().unwrap().done, 30);
    assert_eq!(count(&app.owner, "SELECT count(*) FROM approval_chain WHERE kind = 'replayed'").await, 60);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_replayed_delivery_is_due_at_once_and_is_no_second_decision(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = decided(&app, &agent, "k").await;
    let pending = app.submit(&agent, "pending").await;
    let first = poll(&app, &agent).await.remove(0);
    assert_eq!(acknowledge(&app, &agent, &first, "accepted").await.status, 200);
    app.advance(100_000.0);
    let unknown = "00000000-0000-4000-8000-000000000000";
    let named = order("named", "deliveries", &json!({"request_ids": [id, pending, unknown]}));
    let answer = replay(&app, &named).await.json();
    assert_eq!((&answer["matched"], &answer["done"], &answer["state"]), (&json!(1), &json!(1), &json!("finished")));
    // Said again, the old acknowledgement does not end the new delivery.
    assert_eq!(acknowledge(&app, &agent, &first, "accepted").await.json()["state"], "ready");
    let second = poll(&app, &agent).await.remove(0);
    assert_eq!((&second["attempt"], &second["replayed"]), (&json!(2), &json!(true)));
    for member in ["request_id", "outcome", "decided_at", "receipt", "chain"] {
        assert_eq!(first[member], second[member], "{member}");
    }
    assert_eq!(acknowledge(&app, &agent, &second, "accepted").await.json()["state"], "acknowledged");
    assert_eq!(count(&app.owner, "SELECT count(*) FROM hitl_decisions").await, 1);
    let entry: String =
        sqlx::query_scalar("SELECT convert_from(entry, 'UTF8') FROM approval_chain WHERE kind = 'replayed'")
            .fetch_one(&app.owner)
            .await
            .unwrap();
    let entry: Value = serde_json::from_str(&entry).unwrap();
    assert_eq!((&entry["actor"]["kind"], &entry["actor"]["id"]), (&json!("admin"), &json!("ada")));
    assert_eq!((&entry["reason"], &entry["replay_id"]), (&named["reason"], &answer["replay_id"]));
    assert_eq!(count(&app.owner, "SELECT count(*) FROM outbox WHERE kind = 'replayed'").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn open_dead_letters_are_retried_and_resolved(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    for number in 0..3 {
        decided(&app, &agent, &format!("k{number}")).await;
    }
    for delivery in &poll(&app, &agent).await[1..] {
        assert_eq!(acknowledge(&app, &agent, delivery, "failed").await.status, 200);
    }
    let answer = replay(&app, &order("letters", "deliveries", &json!({"dead_letters": true}))).await.json();
    assert_eq!((&answer["matched"], &answer["done"]), (&json!(2), &json!(2)));
    assert_eq!(count(&app.owner, "SELECT count(*) FROM dead_letters WHERE resolution = 'retried'").await, 2);
    let again = poll(&app, &agent).await;
    assert_eq!(again.len(), 2);
    // It may fail once more.
    assert_eq!(acknowledge(&app, &agent, &again[0], "failed").await.json()["state"], "dead_lettered");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_replay_of_many_leaves_what_the_requeue_of_one_does(owner: PgPool) {
    let app = TestApp::new(&owner, routes().merge(admin::router()));
    let (agent, root) = (app.agent("a").await, app.person("ada", &["admin"]));
    let ids = [decided(&app, &agent, "one").await, decided(&app, &agent, "many").await];
    for delivery in poll(&app, &agent).await {
        assert_eq!(acknowledge(&app, &agent, &delivery, "failed").await.status, 200);
    }
    let why = json!({"action": "requeue", "reason": "the agent lost its disk"});
    let requeued = app.post(&format!("/v1/admin/requests/{}/disposition", ids[0]), &root, &why).await;
    assert_eq!(requeued.status, 200, "{}", String::from_utf8_lossy(&requeued.bytes));
    let replayed = replay(&app, &order("many", "deliveries", &json!({"request_ids": [ids[1]]}))).await;
    assert_eq!(replayed.json()["done"], 1);
    // All that a redelivery writes, without what names this request or this replay.
    let written = "SELECT jsonb_build_object(
            'delivery', to_jsonb(d) - '{request_id,delivery_id,agent_id}'::text[],
            'dead_letter', (SELECT to_jsonb(x) - '{dead_letter_id,request_id}'::text[] FROM dead_letters x
                WHERE x.request_id = d.request_id),
            'entry', convert_from(c.entry, 'UTF8')::jsonb - '{request_id,replay_id}'::text[],
            'event', (convert_from(o.payload, 'UTF8')::jsonb #- '{data,chain,head}') #- '{data,client_request_key}'
                #- '{id}' #- '{subject}'
        )
        FROM deliveries d
        JOIN approval_chain c ON c.request_id = d.request_id AND c.seq = d.replayed_seq
        JOIN outbox o ON o.request_id = c.request_id AND o.seq = c.seq
        WHERE d.request_id = $1::uuid";
    let of = async |id: &str| -> Value { sqlx::query_scalar(written).bind(id).fetch_one(&app.owner).await.unwrap() };
    let (one, many) = (of(&ids[0]).await, of(&ids[1]).await);
    assert_eq!(one, many);
    assert_eq!((&one["delivery"]["replayed_by"], &one["delivery"]["replay_reason"]), (&json!("ada"), &why["reason"]));
    assert_eq!(one["dead_letter"]["resolution"], "retried");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_dry_run_only_counts(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    for number in 0..3 {
        decided(&app, &agent, &format!("k{number}")).await;
    }
    sqlx::query("DELETE FROM outbox").execute(&app.owner).await.unwrap();
    let everything = "SELECT md5(string_agg(t::text, ',')) FROM (
        SELECT d::text FROM deliveries d UNION ALL SELECT r::text FROM hitl_requests r
        UNION ALL SELECT c::text FROM approval_chain c UNION ALL SELECT o::text FROM outbox o ORDER BY 1) t";
    let before: String = sqlx::query_scalar(everything).fetch_one(&app.owner).await.unwrap();
    for (target, matched) in [("deliveries", 3), ("events", 6)] {
        let period = json!({"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
        let mut order = order(target, target, &period);
        order["dry_run"] = json!(true);
        let answer = replay(&app, &order).await.json();
        assert_eq!((&answer["matched"], &answer["done"]), (&json!(matched), &json!(0)));
        assert_eq!(answer["state"], "finished");
    }
    timeout_sweep::run_once(app.state.clone()).await.unwrap();
    let after: String = sqlx::query_scalar(everything).fetch_one(&app.owner).await.unwrap();
    assert_eq!(before, after);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_stands_for_one_order(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    app.agent("a").await;
    let first = order("key", "events", &json!({"dead_letters": true}));
    let answer = replay(&app, &first).await;
    assert_eq!(answer.status, 202);
    assert_eq!(replay(&app, &first).await.json(), answer.json());
    for (member, value) in [
        ("target", json!("deliveries")),
        ("scope", json!({"request_ids": ["0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17"]})),
        ("reason", json!("another")),
        ("dry_run", json!(true)),
    ] {
        let mut other = first.clone();
        other[member] = value;
        assert_eq!(replay(&app, &other).await.code(), "conflict", "{member}");
    }
    let period = json!({"agent_id": "b", "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
    let unknown = replay(&app, &order("unknown", "events", &period)).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["errors"][0]["pointer"]), (422, &json!("/scope/agent_id")));
    assert_eq!(count(&app.owner, "SELECT count(*) FROM replays").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_replay_that_always_fails_is_given_up_and_holds_up_no_other(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = decided(&app, &agent, "k").await;
    sqlx::raw_sql("DELETE FROM outbox; ALTER TABLE outbox ADD CONSTRAINT outbox_broken CHECK (false)")
        .execute(&owner)
        .await
        .expect("a broken table");
    let broken = replay(&app, &order("broken", "events", &json!({"request_ids": [id]}))).await;
    assert_eq!((broken.status.as_u16(), &broken.json()["state"]), (202, &json!("running")));
    for _ in 0..4 {
        app.advance(600.0);
        Box::pin(timeout_sweep::run_once(app.state.clone())).await.expect("a sweep");
    }
    let given_up = shown(&app, &broken.json()).await;
    assert_eq!((&given_up["state"], &given_up["done"]), (&json!("failed"), &json!(0)));
    assert!(given_up["error_message"].as_str().is_some_and(|message| message.contains("outbox_broken")));
    sqlx::raw_sql("ALTER TABLE outbox DROP CONSTRAINT outbox_broken").execute(&owner).await.expect("a mended table");
    let mended = replay(&app, &order("mended", "events", &json!({"request_ids": [id]}))).await;
    assert_eq!((&mended.json()["state"], &mended.json()["done"]), (&json!("finished"), &json!(2)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_replayed_delivery_wakes_a_poll_of_another_process(owner: PgPool) {
    let nats = std::env::var("NATS_URL").expect("NATS_URL: run `make test`");
    let here = TestApp::with_nats(&owner, routes(), &nats);
    let there = here.another_process(routes(), &nats);
    assert!(here.state.events.is_connected().await && there.state.events.is_connected().await);
    let agent = here.agent(&format!("again-{}", here.now().timestamp_micros())).await;
    let id = decided(&here, &agent, "k").await;
    let first = poll(&here, &agent).await.remove(0);
    assert_eq!(acknowledge(&here, &agent, &first, "accepted").await.status, 200);
    let mut parked = there.state.events.park(&agent.agent_id.parse().unwrap(), WaitsFor::Delivery(None), 1).unwrap();
    parked.subscribed().await;
    replay(&here, &order(&agent.agent_id, "deliveries", &json!({"request_ids": [id]}))).await;
    assert!(parked.wait(Duration::from_secs(10)).await);
}

/// A period costs what is in it: not the more batches the more requests there were before.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_period_looks_at_nothing_before_it(owner: PgPool) {
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&owner).await.expect("the extension");
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    // More than one batch looks at.
    for number in 0..510 {
        app.submit(&agent, &format!("before-{number}")).await;
    }
    sqlx::query("DELETE FROM outbox").execute(&owner).await.expect("published");
    app.advance(60.0);
    let from = app.now();
    for number in 0..3 {
        decided(&app, &agent, &format!("k{number}")).await;
        app.advance(1.0);
    }
    let period = json!({"from": Timestamp(from), "to": Timestamp(app.now())});
    app.advance(1.0);
    decided(&app, &agent, "after").await;
    for (target, matched) in [("events", 6), ("deliveries", 3)] {
        let answer = replay(&app, &order(target, target, &period)).await.json();
        assert_eq!((&answer["matched"], &answer["done"]), (&json!(matched), &json!(matched)), "{target}");
        assert_eq!(answer["state"], "finished");
    }
    let batches: Vec<(String, i64)> = sqlx::query_as(
        "SELECT substring(query FROM 'relaytrace: (\\w+)') AS name, sum(calls)::bigint FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND query ~ 'relaytrace: (count_replayed|replay)_(events|deliveries)'
        GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(&owner)
    .await
    .expect("calls");
    let once = ["count_replayed_deliveries", "count_replayed_events", "replay_deliveries", "replay_events"];
    assert_eq!(batches, once.map(|name| (name.to_owned(), 1)));
}

/// Each piece of a period goes on where the one before ended, and a moment is never cut in two.
#[sqlx::test(migrator = "MIGRATOR")]
async fn the_pieces_of_a_period_repeat_and_miss_nothing(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let from = Timestamp(app.now());
    for number in 0..4 {
        // Two of one moment.
        decided(&app, &agent, &format!("k{number}")).await;
        decided(&app, &agent, &format!("l{number}")).await;
        app.advance(1.0);
    }
    let scope = ReplayScope::Period { agent_id: None, from, to: Timestamp(app.now()) };
    let replay_id = only_ordered(&app, "pieces", &scope).await;
    let store = &app.state.store;
    while store.advance_replay(replay_id, 3).await.expect("a batch").is_some() {}
    let shown = store.replay(&ada(), replay_id).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.matched, shown.done), (ReplayState::Finished, 8, 8));
    assert_eq!(count(&app.owner, "SELECT count(*) FROM approval_chain WHERE kind = 'replayed'").await, 8);
}
