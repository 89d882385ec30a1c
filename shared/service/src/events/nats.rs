//! The connection to NATS: lazy, never waited for twice while it is dead.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::stream::{Config as StreamConfig, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, ServerAddr};
use futures_util::Stream;
use futures_util::future::join_all;
use futures_util::stream::select;
use secrecy::ExposeSecret;
use tokio::sync::{Notify, OnceCell};

use crate::config::NatsConfig;
use relaytrace_domain::{AgentId, RequestId};
use relaytrace_store::{FOR_POLLS, OutboxEvent};

/// Name of the stream (contract, "Events").
pub const STREAM: &str = "RELAYTRACE";
/// Longest wait for one acknowledgement of the stream.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// After a failure nobody tries again for so long.
const BREAK_FOR: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub(super) struct Nats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: NatsConfig,
    client: OnceCell<Client>,
    stream_exists: OnceCell<()>,
    /// Told when an attempt to connect has succeeded, or failed.
    connected: Arc<Notify>,
    failed: Arc<Notify>,
    started: Instant,
    /// Milliseconds after `started` until which the breaker is open.
    broken_until: AtomicU64,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Publication {
    /// The stream has it.
    Acknowledged,
    /// Nobody was there to say anything.
    Unreached,
    /// The stream refused it.
    Refused(String),
    /// It is longer than the server takes, now and ever.
    TooLong,
}

/// `handoff.<what>.<agent_id>` (contract, "Events"). Subjects are built here only.
fn subject(kind: &str, agent_id: &AgentId) -> String {
    format!("handoff.{kind}.{agent_id}")
}

impl Nats {
    pub(super) fn new(config: NatsConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            client: OnceCell::new(),
            stream_exists: OnceCell::new(),
            connected: Arc::default(),
            failed: Arc::default(),
            started: Instant::now(),
            broken_until: AtomicU64::new(0),
        }))
    }

    /// The client; it connects, and reconnects, in the background.
    async fn client(&self) -> anyhow::Result<&Client> {
        let connect = async || {
            let config = &self.0.config;
            let (connected, failed) = (self.0.connected.clone(), self.0.failed.clone());
            let mut options = ConnectOptions::new()
                .name("relaytrace")
                .retry_on_initial_connect()
                // Our own decisions wake our own polls without a way through the server.
                .no_echo()
                .ping_interval(Duration::from_secs(2))
                .connection_timeout(Duration::from_secs(2))
                .event_callback(move |event| {
                    match event {
                        Event::Connected => connected.notify_waiters(),
                        Event::ClientError(_) => failed.notify_waiters(),
                        _ => {}
                    }
                    std::future::ready(())
                })
                // The first attempt is number 1.
                .reconnect_delay_callback(|attempt| {
                    Duration::from_millis(250.min(20 * (attempt as u64).saturating_sub(1)))
                });
            if let Some(credentials) = &config.credentials {
                options = options.credentials(credentials.expose_secret())?;
            }
            let servers = config.url.split(',').map(str::parse).collect::<Result<Vec<ServerAddr>, _>>()?;
            anyhow::Ok(options.connect(servers).await?)
        };
        self.0.client.get_or_try_init(connect).await
    }

    pub(super) fn is_connected_now(&self) -> bool {
        self.0.client.get().is_some_and(|client| client.connection_state() == State::Connected)
    }

    /// Connects and finds or makes the stream, for as long as no attempt to connect has failed.
    pub(super) async fn connect(&self) {
        let connected = async {
            let client = self.wait_until_connected(CONNECT_TIMEOUT).await?;
            let context = jetstream::new(client.clone());
            self.0.stream_exists.get_or_try_init(|| ensure_stream(&context, self.0.config.replicas)).await
        };
        let is_ready = tokio::select! {
            () = self.0.failed.notified() => false,
            outcome = tokio::time::timeout(ACK_TIMEOUT, connected) => matches!(outcome, Ok(Ok(()))),
        };
        if !is_ready {
            tracing::warn!("NATS is not there yet");
        }
    }

    pub(super) async fn is_connected(&self) -> bool {
        if self.is_broken() {
            return self.is_connected_now();
        }
        let connected = self.wait_until_connected(CONNECT_TIMEOUT).await.is_ok();
        if !connected {
            self.break_off().await;
        }
        connected
    }

    async fn wait_until_connected(&self, longest: Duration) -> anyhow::Result<&Client> {
        let client = self.client().await?;
        let connected = async {
            while client.connection_state() != State::Connected {
                // What happens between the look and the wait is seen at the next look.
                drop(tokio::time::timeout(Duration::from_millis(5), self.0.connected.notified()).await);
            }
        };
        tokio::time::timeout(longest, connected).await.map_err(|_| anyhow::anyhow!("NATS is not connected"))?;
        Ok(client)
    }

    /// Publishes all, pipelined, and says what became of each.
    pub(super) async fn publish(&self, events: &[OutboxEvent]) -> Vec<Publication> {
        if self.is_broken() {
            return vec![Publication::Unreached; events.len()];
        }
        match self.try_publish(events).await {
            Ok(publications) => publications,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "events wait in the outbox: NATS does not take them");
                self.break_off().await;
                vec![Publication::Unreached; events.len()]
            }
        }
    }

    async fn try_publish(&self, events: &[OutboxEvent]) -> anyhow::Result<Vec<Publication>> {
        let client = self.wait_until_connected(CONNECT_TIMEOUT).await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ACK_TIMEOUT);
        self.0.stream_exists.get_or_try_init(|| ensure_stream(&context, self.0.config.replicas)).await?;

        let mut sent = Vec::with_capacity(events.len());
        for event in events {
            let mut headers = HeaderMap::new();
            headers.insert(async_nats::header::NATS_MESSAGE_ID, event.id());
            if let Some(traceparent) = &event.traceparent {
                headers.insert("traceparent", traceparent.as_str());
            }
            let payload = event.payload.clone().into();
            match context.publish_with_headers(subject(&event.kind, &event.agent_id), headers, payload).await {
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => sent.push(None),
                acknowledgement => sent.push(Some(acknowledgement?)),
            }
        }
        let publications = join_all(sent.into_iter().map(outcome)).await;
        let failure = publications.iter().find(|publication| **publication != Publication::Acknowledged);
        if let Some(failure) = failure {
            // The stream may have been lost with its store: made anew, it takes the next attempt.
            tracing::warn!(?failure, "the stream did not acknowledge an event");
            ensure_stream(&context, self.0.config.replicas).await?;
        }
        Ok(publications)
    }

    fn is_broken(&self) -> bool {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        now < self.0.broken_until.load(Ordering::Relaxed)
    }

    /// Opens the breaker, and drops a connection that only looks alive.
    pub(super) async fn break_off(&self) {
        let until = (self.0.started.elapsed() + BREAK_FOR).as_millis();
        self.0.broken_until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
        if self.is_connected_now()
            && let Some(client) = self.0.client.get()
        {
            drop(client.force_reconnect().await);
        }
    }

    /// What other processes announce for polls.
    pub(super) async fn subscribe(&self) -> anyhow::Result<impl Stream<Item = Message> + use<>> {
        let client = self.client().await?;
        let [decided, replayed] = FOR_POLLS.map(|kind| client.subscribe(format!("handoff.{kind}.*")));
        let announced = select(decided.await?, replayed.await?);
        if self.is_connected_now() {
            tokio::time::timeout(Duration::from_millis(200), client.flush()).await??;
        }
        Ok(announced)
    }
}

/// The agent and the request that a message is about, by its subject and its `Nats-Msg-Id` `<request_id>/<seq>`.
pub(super) fn announced(message: &Message) -> Option<(AgentId, RequestId)> {
    let agent_id = message.subject.rsplit('.').next()?.parse().ok()?;
    let id = message.headers.as_ref()?.get(async_nats::header::NATS_MESSAGE_ID)?;
    Some((agent_id, id.as_str().split('/').next()?.parse().ok()?))
}

/// What became of an event that was sent; `None`: it was too long to be.
async fn outcome(acknowledgement: Option<PublishAckFuture>) -> Publication {
    match acknowledgement {
        Some(acknowledgement) => {
            acknowledgement.await.map_or_else(|error| publication_of(&error), |_| Publication::Acknowledged)
        }
        None => Publication::TooLong,
    }
}

/// What a failed acknowledgement says of its event.
fn publication_of(error: &PublishError) -> Publication {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Publication::TooLong,
        PublishErrorKind::Other => {
            Publication::Refused(error.source().map_or_else(|| error.to_string(), ToString::to_string))
        }
        _ => Publication::Unreached,
    }
}

async fn ensure_stream(context: &Context, replicas: usize) -> anyhow::Result<()> {
    let config = StreamConfig {
        name: STREAM.into(),
        description: Some("Events of RelayTrace; the truth is in its database".into()),
        subjects: vec!["handoff.>".into()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        max_age: Duration::from_hours(8 * 24),
        num_replicas: replicas,
        duplicate_window: Duration::from_mins(10),
        ..StreamConfig::default()
    };
    context.get_or_create_stream(config).await?;
    Ok(())
}
