//! What happens is told: to whom it is meant for, at least once, and to nobody else.

mod support;

use axum::http::StatusCode;
use relaytrace_store::{MIGRATOR, Turn};
use serde_json::{Value, json};
use sqlx::PgPool;
use support::{Receiver, admin_of, app, publish_all, rows, tell_all, webhook};

const OK: fn(&str, usize) -> StatusCode = |_, _| StatusCode::OK;

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_that_leaves_the_outbox_is_told_once_and_nobody_is_told_arguments(owner: PgPool) {
    let (app, receiver) = (app(&owner), Receiver::start(OK).await);
    let agent = app.agent("billing").await;
    // Nobody listens: nothing is queued.
    app.submit(&agent, "before").await;
    publish_all(&app).await;
    assert_eq!(rows(&app, "events_to_tell").await, 0);

    webhook(&app, "ops", &format!("{}/ops", receiver.address), &json!({})).await;
    let request_id = app.submit(&agent, "one").await;
    publish_all(&app).await;
    publish_all(&app).await;
    tell_all(&app).await;
    notify::run_once(app.state.clone()).await.unwrap();
    let received = receiver.received();
    let [message] = &received[..] else { panic!("{received:?}") };
    assert_eq!(message.body["type"], "request.requested");
    let data = &message.body["data"];
    assert_eq!(data["request_id"], request_id);
    assert_eq!(data["link"], format!("https://page.example/?id={request_id}"));
    let text = message.body.to_string();
    assert!(!text.contains("12.40\"") && !text.contains("currency") && !text.contains("resume"), "{text}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn with_the_stream_away_a_sweep_tells_and_its_return_tells_nothing_again(owner: PgPool) {
    let (app, receiver) = (app(&owner), Receiver::start(OK).await);
    let agent = app.agent("billing").await;
    webhook(&app, "ops", &format!("{}/ops", receiver.address), &json!({})).await;
    app.submit(&agent, "one").await;
    // The row is younger than what a sweep takes over for the stream.
    let report = timeout_sweep::run_once(app.state.clone()).await.unwrap();
    assert_eq!(report.told, 1);
    tell_all(&app).await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(rows(&app, "outbox").await, 1);
    publish_all(&app).await;
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().told, 0);
    tell_all(&app).await;
    assert_eq!(receiver.received().len(), 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_channel_tells_of_its_events_and_requests_alone(owner: PgPool) {
    let (app, receiver) = (app(&owner), Receiver::start(OK).await);
    let (billing, other) = (app.agent("billing").await, app.agent("other").await);
    let at = |name: &str| format!("{}/{name}", receiver.address);
    webhook(&app, "decided", &at("decided"), &json!({"events": ["decided", "timed_out"]})).await;
    webhook(&app, "billing", &at("billing"), &json!({"match": {"agents": ["billing"]}})).await;
    webhook(&app, "p1", &at("p1"), &json!({"match": {"priorities": ["P1"]}})).await;
    webhook(&app, "refunds", &at("refunds"), &json!({"match": {"action_types": ["refund.*"]}})).await;
    let (first, second) = (app.submit(&billing, "one").await, app.submit(&other, "two").await);
    let path = format!("/v1/hitl/requests/{first}/decision");
    let decided = app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await;
    assert_eq!(decided.status, 201);
    publish_all(&app).await;
    // The other one's time passes.
    app.advance(86_400.0 * 3.0);
    timeout_sweep::run_once(app.state.clone()).await.unwrap();
    publish_all(&app).await;
    tell_all(&app).await;
    let mut told: Vec<_> = receiver
        .received()
        .into_iter()
        .map(|received| {
            let of = received.body["data"]["request_id"].as_str().unwrap().to_owned();
            let of = if of == first {
                "first"
            } else {
                assert_eq!(of, second);
                "second"
            };
            (received.path, received.body["type"].as_str().unwrap().to_owned(), of)
        })
        .collect();
    told.sort();
    let expected = [
        ("billing", "request.requested", "first"),
        ("decided", "request.decided", "first"),
        ("decided", "request.timed_out", "second"),
        ("refunds", "request.requested", "first"),
        ("refunds", "request.requested", "second"),
    ];
    assert_eq!(told, expected.map(|(path, kind, of)| (path.to_owned(), kind.to_owned(), of)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_day_without_success_is_a_dead_letter_that_can_be_retried(owner: PgPool) {
    let (app, receiver) = (
        app(&owner),
        Receiver::start(|path, _| match path {
            "good" => StatusCode::OK,
            _ => StatusCode::BAD_GATEWAY,
        })
        .await,
    );
    let agent = app.agent("billing").await;
    webhook(&app, "ops", &format!("{}/bad", receiver.address), &json!({})).await;
    app.submit(&agent, "one").await;
    publish_all(&app).await;
    notify::run_once(app.state.clone()).await.unwrap();
    app.advance(86_000.0);
    let report = notify::run_once(app.state.clone()).await.unwrap();
    assert!(report.failed >= 1 && report.dead_lettered == 0, "{report:?}");
    app.advance(900.0);
    let report = notify::run_once(app.state.clone()).await.unwrap();
    assert_eq!((report.dead_lettered, rows(&app, "notifications").await), (1, 0));
    let admin = admin_of(&app);
    let letters = app.get("/v1/admin/dead-letters?kind=notification", &admin).await.json();
    let letter = &letters["items"][0];
    assert_eq!((&letter["channel_id"], &letter["notice"]), (&"ops".into(), &"requested".into()));
    assert_eq!((&letter["agent_id"], &letter["cause"]), (&"billing".into(), &"age_exceeded".into()));

    webhook(&app, "ops", &format!("{}/good", receiver.address), &json!({})).await;
    let id = letter["dead_letter_id"].as_str().unwrap();
    let retried = app.post(&format!("/v1/admin/dead-letters/{id}/retry"), &admin, &json!({})).await;
    assert_eq!(retried.status, 200, "{}", String::from_utf8_lossy(&retried.bytes));
    tell_all(&app).await;
    let last = receiver.received().pop().unwrap();
    assert_eq!((last.path.as_str(), last.body["type"].as_str()), ("good", Some("request.requested")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_agent_is_pushed_what_was_resolved_and_410_turns_it_off(owner: PgPool) {
    let (app, receiver) = (
        app(&owner),
        Receiver::start(|_, before| match before {
            0 | 1 => StatusCode::OK,
            _ => StatusCode::GONE,
        })
        .await,
    );
    let (agent, admin) = (app.agent("billing").await, admin_of(&app));
    let change =
        async |push: Value| app.call("PATCH", "/v1/admin/agents/billing", &admin, &json!({"push": push})).await;
    let url = json!({"url": format!("{}/agent", receiver.address)});
    assert_eq!(change(url.clone()).await.status, 422);
    let secret = app.post("/v1/admin/agents/billing/push/secret", &admin, &json!({})).await;
    assert!(secret.json()["secret"].as_str().unwrap().starts_with("whsec_"));
    let rotated = app.post("/v1/admin/agents/billing/push/secret", &admin, &json!({})).await;
    assert_ne!(secret.json()["secret"], rotated.json()["secret"]);
    let set = change(url.clone()).await;
    assert_eq!((set.status.as_u16(), set.json()["push"].clone()), (200, url.clone()));

    let decide = async |key: &str| {
        let request_id = app.submit(&agent, key).await;
        let path = format!("/v1/hitl/requests/{request_id}/decision");
        let decision = json!({"decision": "reject", "reason": "no"});
        assert_eq!(app.post(&path, &app.operator("maria"), &decision).await.status, 201);
        publish_all(&app).await;
        request_id
    };
    let request_id = decide("one").await;
    tell_all(&app).await;
    let received = receiver.received();
    let [challenge, told] = &received[..] else { panic!("{received:?}") };
    assert_eq!(challenge.body["type"], "webhook.verification");
    let data = json!({
        "agent_id": "billing", "request_id": request_id, "client_request_key": "one", "status": "decided",
        "outcome": "rejected",
    });
    assert_eq!((&told.body["type"], &told.body["data"]), (&"request.resolved".into(), &data));
    // By the secret that stands, and by the one before it.
    assert_eq!(told.signatures.split(' ').count(), 2);

    decide("two").await;
    tell_all(&app).await;
    assert_eq!(receiver.received().len(), 3);
    assert_eq!(app.get("/v1/admin/agents/billing", &admin).await.json()["push"], Value::Null);
    decide("three").await;
    tell_all(&app).await;
    assert_eq!(receiver.received().len(), 3);
    assert_eq!(change(json!(null)).await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_removed_channel_is_told_nothing_any_more(owner: PgPool) {
    let (app, receiver) = (app(&owner), Receiver::start(OK).await);
    let (agent, admin) = (app.agent("billing").await, admin_of(&app));
    webhook(&app, "ops", &format!("{}/ops", receiver.address), &json!({})).await;
    app.submit(&agent, "one").await;
    publish_all(&app).await;
    for (name, status) in [("ops", 204), ("ops", 204), ("never", 404)] {
        let removed = app.call("DELETE", &format!("/v1/admin/channels/{name}"), &admin, &json!({})).await;
        assert_eq!(removed.status.as_u16(), status);
    }
    assert_eq!(app.get("/v1/admin/channels/ops", &admin).await.status, 404);
    tell_all(&app).await;
    assert_eq!(receiver.received().len(), 0);
    let sealed: Option<Vec<u8>> = sqlx::query_scalar("SELECT sealed FROM listeners").fetch_one(&owner).await.unwrap();
    assert_eq!(sealed, None);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn listeners_take_turns_whatever_waits_for_each_of_them(owner: PgPool) {
    const CHANNELS: usize = 12;
    let app = app(&owner);
    let agent = app.agent("billing").await;
    for number in 0..CHANNELS {
        webhook(&app, &format!("ops-{number}"), "http://127.0.0.1:9/never", &json!({})).await;
    }
    for number in 0..20 {
        app.submit(&agent, &format!("key-{number}")).await;
    }
    publish_all(&app).await;
    app.state.store.deal_out(500).await.unwrap();
    // Nothing is ever told: more is due of each than one statement takes of all.
    let mut turn = Turn::default();
    let mut turns = Vec::new();
    for _ in 0..CHANNELS {
        let taken = app.state.store.claim_notifications(8, 8, 60.0, &turn).await.unwrap();
        assert_eq!(taken.len(), 8);
        turn.after = taken[0].listener_id;
        turns.push(turn.after);
    }
    let mut each = turns.clone();
    each.sort_unstable();
    each.dedup();
    assert_eq!(each.len(), CHANNELS, "each once: {turns:?}");
    // Those that have enough under way, and whole tenants that have, are left out.
    turn.busy = each[1..].to_vec();
    let taken = app.state.store.claim_notifications(64, 8, 60.0, &turn).await.unwrap();
    assert!(!taken.is_empty() && taken.iter().all(|notification| notification.listener_id == each[0]));
    let full = Turn { full: vec!["default".to_owned()], ..Turn::default() };
    assert!(app.state.store.claim_notifications(64, 8, 60.0, &full).await.unwrap().is_empty());
}

/// Ten thousand messages, a receiver that takes every other one, and two notifiers.
#[sqlx::test(migrator = "MIGRATOR")]
async fn ten_thousand_messages_are_told_although_half_of_the_tries_fail(owner: PgPool) {
    const MESSAGES: i64 = 10_000;
    let (app, receiver) = (
        app(&owner),
        Receiver::start(|_, before| match before % 2 {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        })
        .await,
    );
    let agent = app.agent("billing").await;
    webhook(&app, "ops", &format!("{}/ops", receiver.address), &json!({})).await;
    app.submit(&agent, "one").await;
    publish_all(&app).await;
    // As many more requests as the statement of one would have stored, and their events.
    for statement in [
        "CREATE TABLE copies (LIKE hitl_requests)",
        "INSERT INTO copies SELECT r.* FROM hitl_requests r CROSS JOIN generate_series(2, $1)",
        "UPDATE copies SET request_id = gen_random_uuid()",
        "INSERT INTO hitl_requests SELECT * FROM copies",
        "INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
            SELECT e.*, chain_genesis(request_id), sha256(chain_genesis(request_id) || entry) FROM (
                SELECT request_id, 1, 'submitted', created_at,
                    chain_entry(request_id, 1, 'submitted', created_at, chain_actor('agent', 'billing', NULL), '') AS entry
                FROM copies
            ) e",
        "INSERT INTO outbox (request_id, seq, kind, agent_id, payload, created_at, claimed_until)
            SELECT request_id, 1, 'requested', 'billing', '', now(), now() FROM copies",
    ] {
        let statement = statement.replace("$1", &MESSAGES.to_string());
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&owner).await.unwrap();
    }
    publish_all(&app).await;
    let begun = std::time::Instant::now();
    for _ in 0..200 {
        let (one, other) = tokio::join!(notify::run_once(app.state.clone()), notify::run_once(app.state.clone()));
        one.unwrap();
        other.unwrap();
        if rows(&app, "notifications").await + rows(&app, "events_to_tell").await == 0 {
            break;
        }
        app.advance(301.0);
    }
    let taken = receiver.taken();
    let duplicates: usize = taken.values().map(|times| times - 1).sum();
    println!("{} messages, {duplicates} duplicates, {:?}", taken.len(), begun.elapsed());
    assert_eq!(i64::try_from(taken.len()).unwrap(), MESSAGES);
    assert_eq!(rows(&app, "dead_letters").await, 0);
    assert!(duplicates <= 10, "{duplicates}");
}
