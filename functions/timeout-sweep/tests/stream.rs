//! Events on their way to real NATS servers: many at once, to servers that are not as they should be, beside others who
//! publish.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic as their tests may")]

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer::pull, stream::Config};
use futures_util::{FutureExt as _, StreamExt as _};
use relaytrace_domain::RequestId;
use relaytrace_servers::{Durability, Nats};
use relaytrace_service::events::{Published, STREAM, WaitsFor};
use relaytrace_store::{MIGRATOR, OutboxEvent};
use relaytrace_testing::{TestApp, until};
use sqlx::PgPool;
use uuid::Uuid;

/// Longest that a test waits for what would never come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server with this beside its own configuration.
fn server(more: &str) -> (impl Drop + use<>, Nats) {
    let folder = relaytrace_servers::scratch_folder().unwrap();
    let nats = Nats::start_with(&folder.path().join("nats"), Durability::Throwaway, more).unwrap();
    (folder, nats)
}

fn event(payload: &str) -> OutboxEvent {
    OutboxEvent {
        request_id: RequestId(Uuid::new_v4()),
        seq: 1,
        kind: "requested".parse().unwrap(),
        agent_id: "a".parse().unwrap(),
        payload: payload.into(),
        traceparent: None,
    }
}

async fn publish(app: &TestApp, events: Vec<OutboxEvent>) -> Published {
    let published = app.state.events.publish(&app.state.store, events);
    tokio::time::timeout(PATIENCE, published).await.expect("it ended").expect("published")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn more_events_at_once_than_the_client_lets_wait_are_published(owner: PgPool) {
    const EVENTS: usize = 6_000;
    let (_folder, nats) = server("");
    let app = TestApp::with_nats(&owner, timeout_sweep::router(), &nats.url());
    let published = publish(&app, (0..EVENTS).map(|number| event(&number.to_string())).collect()).await;
    assert_eq!((published.acknowledged, published.unreached.len()), (EVENTS as u64, 0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_id_that_someone_else_took_is_found(owner: PgPool) {
    let (_folder, nats) = server("");
    let app = TestApp::with_nats(&owner, timeout_sweep::router(), &nats.url());
    let (ours, taken) = (event("ours"), event("ours too"));
    assert_eq!(publish(&app, vec![ours.clone()]).await.acknowledged, 1);

    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", taken.id());
    let stranger = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let theirs = stranger.publish_with_headers("handoff.requested.a", headers, "theirs".into()).await.unwrap();
    theirs.await.unwrap();

    // A repetition of our own is no news; that of the stranger's message is not ours.
    let published = publish(&app, vec![ours, taken]).await;
    assert_eq!(published.acknowledged, 1);
    assert!(published.unreached.is_empty());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_login_of_a_url_is_used(owner: PgPool) {
    let (_folder, nats) = server("authorization { user: user, password: \"p@ss\" }");
    let address = nats.url().replace("nats://", "");
    for (login, is_good) in [("user:p%40ss", true), ("user:wrong", false)] {
        let app = TestApp::with_nats(&owner, timeout_sweep::router(), &format!("nats://{login}@{address}"));
        assert_eq!(publish(&app, vec![event("x")]).await.acknowledged == 1, is_good, "{login}");
        let trouble = app.state.events.trouble();
        assert_eq!(trouble.is_none(), is_good, "{trouble:?}");
        assert!(trouble.is_none_or(|cause| cause.contains("uthorization") && !cause.contains("wrong")));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn why_nats_is_not_connected_is_said(owner: PgPool) {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // One that is no NATS server: it says nothing that NATS would.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let not_nats = other.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut caller, _)) = other.accept() {
            drop(caller.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    for (url, cause) in [
        (format!("nats://{closed}"), "refused"),
        (format!("nats://{not_nats}"), "invalid server operation"),
        ("nats://no-such-host.invalid".into(), "DNS"),
    ] {
        let app = TestApp::with_nats(&owner, timeout_sweep::router(), &url);
        assert_eq!(publish(&app, vec![event("x")]).await.acknowledged, 0);
        until(async || app.state.events.trouble().is_some_and(|trouble| trouble.contains(cause))).await;
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_stream_of_other_subjects_is_said(owner: PgPool) {
    let (_folder, nats) = server("");
    let context = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let other = Config { name: STREAM.into(), subjects: vec!["other.>".into()], ..Config::default() };
    context.create_stream(other).await.unwrap();
    let app = TestApp::with_nats(&owner, timeout_sweep::router(), &nats.url());
    assert_eq!(publish(&app, vec![event("x")]).await.acknowledged, 0);
    let trouble = app.state.events.trouble().expect("a cause");
    assert!(trouble.contains("other.>") && trouble.contains("handoff.>"), "{trouble}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_poller_that_hangs_up_while_it_subscribes_leaves_no_one_without_wake_ups(owner: PgPool) {
    let (_folder, nats) = server("");
    let here = TestApp::with_nats(&owner, timeout_sweep::router(), &nats.url());
    let there = here.another_process(timeout_sweep::router(), &nats.url());
    here.state.events.connect().await;
    let agent_id = "a".parse().unwrap();
    let mut hung_up = here.state.events.park(&agent_id, WaitsFor::Delivery(None), 9).unwrap();
    assert!(hung_up.subscribed().now_or_never().is_none(), "it was to hang up while it waits");
    drop(hung_up);
    let decided = OutboxEvent { kind: "decided".parse().unwrap(), ..event("x") };
    let is_woken = async {
        let parked = here.state.events.park(&agent_id, WaitsFor::Delivery(None), 9).unwrap();
        // The subscription is made by another task: what comes before it is not heard.
        loop {
            publish(&there, vec![OutboxEvent { request_id: RequestId(Uuid::new_v4()), ..decided.clone() }]).await;
            if parked.wait(Duration::from_millis(200)).await {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, is_woken).await.expect("woken");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_shipped_permissions_let_only_the_functions_publish(owner: PgPool) {
    let permissions = include_str!("../../../local/nats-permissions.conf");
    let passwords = "NATS_FUNCTIONS_PASSWORD: \"ours\"\nNATS_CONSUMER_PASSWORD: \"theirs\"\n";
    let (_folder, nats) = server(&format!("{passwords}{permissions}"));
    let address = nats.url().replace("nats://", "");
    let url = format!("nats://relaytrace:ours@{address}");
    let here = TestApp::with_nats(&owner, timeout_sweep::router(), &url);
    let there = here.another_process(timeout_sweep::router(), &url);
    let mut parked = here.state.events.park(&"a".parse().unwrap(), WaitsFor::Delivery(None), 9).unwrap();
    parked.subscribed().await;

    // The functions: make the stream, publish, repeat, and wake each other.
    let decided = OutboxEvent { kind: "decided".parse().unwrap(), ..event("x") };
    for _ in 0..2 {
        assert_eq!(publish(&there, vec![decided.clone()]).await.acknowledged, 1);
    }
    assert!(parked.wait(PATIENCE).await, "not woken");
    assert_eq!((here.state.events.trouble(), there.state.events.trouble()), (None, None));

    // A consumer: reads and acknowledges.
    let login = async_nats::ConnectOptions::with_user_and_password("consumer".into(), "theirs".into());
    let client = login.connect(nats.url()).await.unwrap();
    let mut context = jetstream::new(client.clone());
    context.set_timeout(Duration::from_millis(500));
    let stream = context.get_stream(STREAM).await.unwrap();
    let durable = pull::Config { durable_name: Some("archive".into()), ..pull::Config::default() };
    let consumer = stream.create_consumer(durable).await.unwrap();
    let message = consumer.messages().await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(message.payload.as_ref(), b"x");
    message.double_ack().await.unwrap();

    // And cannot publish, nor change the stream.
    let forged = context.publish("handoff.decided.a", "forged".into()).await.unwrap().await;
    assert!(forged.is_err());
    assert!(stream.purge().await.is_err());
    assert!(context.delete_stream(STREAM).await.is_err());
    assert_eq!(context.get_stream(STREAM).await.unwrap().cached_info().state.messages, 1);
}
