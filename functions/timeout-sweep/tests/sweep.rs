//! Sweeping against real Postgres and NATS.

use async_nats::jetstream::{self, stream::Stream};
use futures_util::future::join_all;
use relaytrace_servers::{Durability, Nats};
use relaytrace_service::events::STREAM;
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestApp, until};
use serde_json::json;
use sqlx::PgPool;

fn routes() -> Routes {
    ingest::router().merge(decide::router()).merge(poll::router()).merge(timeout_sweep::router())
}

async fn count(owner: &PgPool, condition: &'static str) -> i64 {
    sqlx::query_scalar(condition).fetch_one(owner).await.expect("a count")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn overlapping_sweeps_expire_each_due_request_once_and_none_early(owner: PgPool) {
    const DUE: usize = 300;
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    join_all((0..DUE).map(|number| {
        let (app, agent) = (&app, &agent);
        async move { app.submit(agent, &format!("k{number}")).await }
    }))
    .await;
    app.advance(60.0);
    let early = app.submit(&agent, "early").await;
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().expired, 0);
    app.advance(4.0 * 3_600.0 - 30.0);
    let reports = join_all((0..10).map(|_| timeout_sweep::run_once(app.state.clone()))).await;
    let expired: u64 = reports.into_iter().map(|report| report.unwrap().expired).sum();
    assert_eq!(expired, DUE as u64);
    assert_eq!(
        count(&app.owner, "SELECT count(*) FROM hitl_decisions WHERE cause = 'timeout' AND outcome = 'rejected'").await,
        300
    );
    assert_eq!(count(&app.owner, "SELECT count(*) FROM outbox WHERE kind = 'decided'").await, 300);
    let detail = app.get(&format!("/v1/hitl/requests/{early}"), &app.operator("maria")).await.json();
    assert_eq!(detail["status"], "pending");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_operator_racing_the_sweep_at_the_deadline_has_one_winner(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let (maria, mut by_operator) = (app.operator("maria"), 0);
    for round in 0..30_u64 {
        let id = app.submit(&agent, &format!("k{round}")).await;
        // One microsecond before the deadline the operator is in time; the sweep's clock is past it.
        app.advance(4.0 * 3_600.0 - 0.000_001);
        let path = format!("/v1/hitl/requests/{id}/decision");
        let body = json!({"decision": "approve"});
        let decide = app.post(&path, &maria, &body);
        // In every other round the operator has a head start: without one the clock is always ahead.
        let sweep = async {
            if round % 2 == 1 {
                tokio::time::sleep(std::time::Duration::from_millis(round)).await;
            }
            app.advance(0.000_001);
            timeout_sweep::run_once(app.state.clone()).await.unwrap()
        };
        let (answer, report) = tokio::join!(biased; decide, sweep);
        match answer.status.as_u16() {
            201 => {
                assert_eq!(report.expired, 0);
                by_operator += 1;
            }
            409 => assert!(["expired", "already-decided"].contains(&answer.code().as_str())),
            status => panic!("{status}"),
        }
        timeout_sweep::run_once(app.state.clone()).await.unwrap();
    }
    assert_eq!(count(&app.owner, "SELECT count(*) FROM hitl_decisions").await, 30);
    assert_eq!(count(&app.owner, "SELECT count(*) FROM outbox WHERE kind = 'decided'").await, 30);
    assert_eq!(count(&app.owner, "SELECT count(*) FROM hitl_decisions WHERE cause = 'operator'").await, by_operator);
    assert!(
        (1..30).contains(&by_operator),
        "{by_operator} of 30 races were won by the operator, and none by the other"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn half_of_the_time_escalates_p1_and_p2_once(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    for priority in ["P1", "P2", "P3"] {
        let mut envelope = agent.envelope(priority);
        envelope["priority"] = priority.into();
        assert_eq!(app.post("/v1/hitl/requests", &agent.token(), &envelope).await.status, 201);
    }
    app.advance(7.5 * 60.0);
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().escalated, 1);
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().escalated, 0);
    app.advance(7_200.0 - 7.5 * 60.0);
    let report = timeout_sweep::run_once(app.state.clone()).await.unwrap();
    assert_eq!((report.escalated, report.expired), (1, 1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_exhausted_is_dead_lettered_and_expired_keys_are_dropped(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let id = app.submit(&agent, "k").await;
    app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), &json!({"decision": "approve"}))
        .await;
    app.advance(86_399.0);
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().dead_lettered, 0);
    app.advance(1.0);
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().dead_lettered, 1);
    app.advance(6.0 * 86_400.0);
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().dedupe_dropped, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_used_permit_without_a_report_is_unknown_until_one_comes(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let (silent, told) = (app.submit(&agent, "silent").await, app.submit(&agent, "told").await);
    for id in [&silent, &told] {
        let path = format!("/v1/hitl/requests/{id}/decision");
        let decided = app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await.json();
        let digest = decided["action_digest"].clone();
        let path = format!("/v1/agents/a/requests/{id}/consume");
        let body = json!({"consume_key": "k".repeat(16), "action_digest": digest});
        assert_eq!(app.post(&path, &agent.token(), &body).await.status, 200);
    }
    let report = async |id: &str, state: &str| {
        let path = format!("/v1/agents/a/requests/{id}/outcome");
        app.post(&path, &agent.token(), &json!({"state": state})).await
    };
    let execution = async |id: &str| {
        let view = app.get(&format!("/v1/agents/a/requests/{id}"), &agent.token()).await.json();
        view["execution"].as_str().expect("an execution").to_owned()
    };
    assert_eq!(report(&told, "failed").await.status, 200);
    app.advance(3_599.0);
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().outcomes_unknown, 0);
    assert_eq!(execution(&silent).await, "consumed");
    app.advance(1.0);
    let reports = join_all((0..5).map(|_| timeout_sweep::run_once(app.state.clone()))).await;
    assert_eq!(reports.into_iter().map(|report| report.unwrap().outcomes_unknown).sum::<u64>(), 1);
    assert_eq!((execution(&silent).await, execution(&told).await), ("unknown".to_owned(), "failed".to_owned()));
    assert_eq!(count(&app.owner, "SELECT count(*) FROM outcomes_due WHERE unknown_at IS NULL").await, 0);
    assert_eq!(count(&app.owner, "SELECT count(*) FROM outbox WHERE kind = 'outcome'").await, 2);

    assert_eq!(report(&silent, "succeeded").await.status, 200);
    assert_eq!(execution(&silent).await, "succeeded");
    assert_eq!(report(&silent, "failed").await.code(), "outcome-conflict");
    let said: Vec<String> = sqlx::query_scalar(
        "SELECT convert_from(entry, 'UTF8')::json ->> 'state' FROM approval_chain
        WHERE kind = 'outcome' AND request_id = $1 ORDER BY seq",
    )
    .bind(silent.parse::<uuid::Uuid>().unwrap())
    .fetch_all(&app.owner)
    .await
    .unwrap();
    assert_eq!(said, ["unknown", "succeeded"]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_unknown_outcome_is_stale_for_a_week_or_until_it_is_reported(owner: PgPool) {
    let app = TestApp::new(&owner, routes().merge(admin::router()));
    let agent = app.agent("a").await;
    let mut used = Vec::new();
    for number in 0..5 {
        let id = app.submit(&agent, &format!("k{number}")).await;
        let path = format!("/v1/hitl/requests/{id}/decision");
        let decided = app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await.json();
        let body = json!({"consume_key": "k".repeat(16), "action_digest": decided["action_digest"]});
        assert_eq!(app.post(&format!("/v1/agents/a/requests/{id}/consume"), &agent.token(), &body).await.status, 200);
        used.push(id);
    }
    // Page by page, of one reason.
    let stale = async || {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/admin/stale?limit=2&minutes=10080{cursor}");
            let page = app.get(&path, &app.person("root", &["admin"])).await.json();
            let items = page["items"].as_array().expect("items").iter();
            let of_reason = items.filter(|item| item["why"] == "outcome_unknown");
            found.extend(of_reason.map(|item| item["request_id"].as_str().expect("an id").to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { return found };
            cursor = format!("&cursor={next}");
        }
    };
    app.advance(3_600.0);
    assert!(stale().await.is_empty());
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().outcomes_unknown, 5);
    used.sort();
    assert_eq!(stale().await, used);
    let reported = used.remove(2);
    let path = format!("/v1/agents/a/requests/{reported}/outcome");
    assert_eq!(app.post(&path, &agent.token(), &json!({"state": "succeeded"})).await.status, 200);
    assert_eq!(stale().await, used);
    app.advance(7.0 * 86_400.0 - 1.0);
    timeout_sweep::run_once(app.state.clone()).await.unwrap();
    assert_eq!(stale().await, used);
    app.advance(1.0);
    assert!(stale().await.is_empty());
    timeout_sweep::run_once(app.state.clone()).await.unwrap();
    assert_eq!(count(&app.owner, "SELECT count(*) FROM outcomes_due").await, 0);
}

/// Makes expiring this request fail: its next place in the chain is taken. It is not to be escalated.
async fn spoil(owner: &PgPool, request_id: &str) {
    let id: uuid::Uuid = request_id.parse().expect("an id");
    sqlx::query(
        "WITH spoilt AS (
            UPDATE hitl_requests SET escalate_at = NULL WHERE request_id = $1 RETURNING *
        )
        INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
        SELECT request_id, chain_length + 1, 'escalated', now(), entry, chain_head, sha256(chain_head || entry)
        FROM spoilt CROSS JOIN LATERAL chain_entry(
            request_id, chain_length + 1, 'escalated', now(), chain_actor('policy', 'spoiler', NULL), '\"spoilt\":true'
        ) AS entry",
    )
    .bind(id)
    .execute(owner)
    .await
    .expect("spoilt");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_item_that_keeps_failing_is_set_aside_and_holds_up_nothing(owner: PgPool) {
    let app = TestApp::new(&owner, routes().merge(admin::router()));
    let agent = app.agent("a").await;
    let spoilt = app.submit(&agent, "spoilt").await;
    for number in 0..5 {
        app.submit(&agent, &format!("k{number}")).await;
    }
    spoil(&app.owner, &spoilt).await;
    app.advance(4.0 * 3_600.0);
    let report = timeout_sweep::run_once(app.state.clone()).await.unwrap();
    assert_eq!((report.expired, report.set_aside), (5, 0));
    for (minutes, set_aside) in [(1.0, 0), (2.0, 1), (60.0, 0)] {
        app.advance(minutes * 60.0);
        let next = app.submit(&agent, &format!("later{minutes}")).await;
        let report = timeout_sweep::run_once(app.state.clone()).await.unwrap();
        assert_eq!(report.set_aside, set_aside, "{minutes}");
        // What came meanwhile is there, and what is not due stays.
        let detail = app.get(&format!("/v1/hitl/requests/{next}"), &app.operator("maria")).await.json();
        assert_eq!((&detail["request_id"], &detail["status"]), (&json!(next), &json!("pending")), "{minutes}");
    }
    let root = app.person("root", &["admin"]);
    let letter = app.get("/v1/admin/dead-letters?kind=sweep", &root).await.json()["items"][0].clone();
    assert_eq!((&letter["request_id"], &letter["attempts"]), (&json!(spoilt), &json!(3)));
    assert_eq!((&letter["cause"], &letter["error_code"]), (&json!("sweep_failed"), &json!("23505")));
    assert_eq!(letter["error_message"], "the constraint approval_chain_pkey does not hold");

    sqlx::query("ALTER TABLE approval_chain DISABLE TRIGGER approval_chain_append_only")
        .execute(&app.owner)
        .await
        .unwrap();
    sqlx::query("DELETE FROM approval_chain WHERE kind = 'escalated'").execute(&app.owner).await.unwrap();
    let retry = format!("/v1/admin/dead-letters/{}/retry", letter["dead_letter_id"].as_str().unwrap());
    assert_eq!(app.post(&retry, &root, &json!({})).await.json()["resolution"], "retried");
    assert_eq!(timeout_sweep::run_once(app.state.clone()).await.unwrap().expired, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_part_that_fails_keeps_no_other_from_being_done(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let mut urgent = agent.envelope("urgent");
    urgent["priority"] = "P1".into();
    app.post("/v1/hitl/requests", &agent.token(), &urgent).await;
    app.submit(&agent, "k").await;
    // The first part and the last one are not allowed any more.
    for change in [
        "REVOKE UPDATE ON hitl_requests FROM relaytrace_app",
        "GRANT UPDATE (status, escalated_at, assigned_groups, changed_at, chain_length, chain_head, permit_expires_at, approved_digest,
            execution) ON hitl_requests TO relaytrace_app",
        "REVOKE ALL ON request_dedupe FROM relaytrace_app",
    ] {
        sqlx::query(change).execute(&app.owner).await.unwrap();
    }
    app.advance(2.0 * 3_600.0);
    assert!(timeout_sweep::run_once(app.state.clone()).await.is_err());
    assert_eq!(count(&app.owner, "SELECT count(*) FROM hitl_decisions").await, 1);
    assert_eq!(count(&app.owner, "SELECT count(*) FROM hitl_requests WHERE escalated_at IS NOT NULL").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_that_can_never_be_published_is_set_aside_and_holds_up_nothing(owner: PgPool) {
    let folder = relaytrace_servers::scratch_folder().unwrap();
    let nats = Nats::start(&folder.path().join("nats"), Durability::Throwaway).unwrap();
    let app = TestApp::new(&owner, routes());
    let agent = app.agent("a").await;
    let (long, short) = (app.submit(&agent, "long").await, app.submit(&agent, "short").await);
    sqlx::query("UPDATE outbox SET payload = convert_to(repeat('x', 2 * 1024 * 1024), 'UTF8') WHERE request_id = $1")
        .bind(long.parse::<uuid::Uuid>().unwrap())
        .execute(&app.owner)
        .await
        .unwrap();
    app.advance(11.0);
    let process = app.another_process(routes().merge(admin::router()), &nats.url());
    assert_eq!(timeout_sweep::run_once(process.state.clone()).await.unwrap().relayed, 1);
    assert_eq!(messages(&nats.url()).await, [("handoff.requested.a".to_owned(), format!("{short}/1"))]);
    assert_eq!(count(&app.owner, "SELECT count(*) FROM outbox").await, 0);
    let root = process.person("root", &["admin"]);
    let letter = process.get("/v1/admin/dead-letters?kind=event", &root).await.json()["items"][0].clone();
    assert_eq!((&letter["request_id"], &letter["cause"]), (&json!(long), &json!("unpublishable")));
    let retry = format!("/v1/admin/dead-letters/{}/retry", letter["dead_letter_id"].as_str().unwrap());
    assert_eq!(process.post(&retry, &root, &json!({})).await.status, 200);
    assert_eq!(count(&app.owner, "SELECT count(*) FROM outbox WHERE octet_length(payload) > 2000000").await, 1);
}

async fn messages(url: &str) -> Vec<(String, String)> {
    let client = async_nats::connect(url).await.expect("NATS");
    let stream: Stream = jetstream::new(client).get_stream(STREAM).await.expect("the stream");
    let last = stream.get_info().await.expect("its state").state.last_sequence;
    let mut messages = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.expect("a message");
        let id = message.headers.get("Nats-Msg-Id").expect("an id").to_string();
        messages.push((message.subject.to_string(), id));
    }
    messages.sort();
    messages
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn with_nats_stopped_everything_goes_on_and_its_events_come_out_when_it_is_back(owner: PgPool) {
    let folder = relaytrace_servers::scratch_folder().unwrap();
    let mut nats = Nats::start(&folder.path().join("nats"), Durability::Throwaway).unwrap();
    let app = TestApp::with_nats(&owner, routes(), &nats.url());
    let agent = app.agent("a").await;
    let before = app.submit(&agent, "before").await;
    nats.stop().unwrap();

    let during = app.submit(&agent, "during").await;
    for id in [&before, &during] {
        let path = format!("/v1/hitl/requests/{id}/decision");
        assert_eq!(app.post(&path, &app.operator("maria"), &json!({"decision": "approve"})).await.status, 201);
    }
    let polled = app.get("/v1/agents/a/decisions/poll?wait_seconds=1", &agent.token()).await.json();
    assert_eq!(polled["decisions"].as_array().unwrap().len(), 2);
    for delivery in polled["decisions"].as_array().unwrap() {
        let path = format!("/v1/agents/a/decisions/{}/ack", delivery["request_id"].as_str().unwrap());
        let body = json!({"delivery_id": delivery["delivery_id"], "result": "accepted"});
        assert_eq!(app.post(&path, &agent.token(), &body).await.status, 200);
    }

    nats.start_again().unwrap();
    app.advance(11.0);
    until(async || {
        Box::pin(timeout_sweep::run_once(app.state.clone())).await.unwrap();
        app.advance(31.0);
        count(&app.owner, "SELECT count(*) FROM outbox").await == 0
    })
    .await;
    let mut expected: Vec<_> = [(&before, "requested", 1), (&before, "decided", 2), (&before, "acknowledged", 3)]
        .into_iter()
        .chain([(&during, "requested", 1), (&during, "decided", 2), (&during, "acknowledged", 3)])
        .map(|(id, kind, seq)| (format!("handoff.{kind}.a"), format!("{id}/{seq}")))
        .collect();
    expected.sort();
    assert_eq!(messages(&nats.url()).await, expected);
}
