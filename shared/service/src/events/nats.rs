//! The connection to NATS: lazy, never waited for twice while it is dead, and never without a limit.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event, Message, ServerAddr};
use futures_util::Stream;
use futures_util::future::join_all;
use futures_util::stream::select;
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use tokio::sync::{Notify, OnceCell};

use super::stream;
use crate::config::NatsConfig;
use relaytrace_domain::{AgentId, RequestId};
use relaytrace_store::{FOR_POLLS, OutboxEvent, ToldEntry};

/// Name of the stream (contract, "Events").
pub const STREAM: &str = "RELAYTRACE";
/// Longest wait for one acknowledgement of the stream.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// Longest wait for a subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Events published together at the most: far below what the client lets wait for acknowledgement, 5,000, because it
/// waits for room among them without a limit.
const PART: usize = 512;
/// Pause after a failure, for all callers of this process.
const BREAK_FOR: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub(super) struct Nats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: NatsConfig,
    client: OnceCell<Client>,
    context: OnceCell<Context>,
    stream_exists: OnceCell<()>,
    /// Told when an attempt to connect has succeeded, or failed.
    connected: Arc<Notify>,
    failed: Arc<Notify>,
    trouble: Arc<Trouble>,
    started: Instant,
    /// Milliseconds after `started` until which the breaker is open.
    broken_until: AtomicU64,
}

/// Why events do not get through, for the log and for `/readyz`.
#[derive(Debug, Default)]
struct Trouble(Mutex<[Option<String>; 2]>);

/// What kind of trouble, each remembered by itself.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Connection,
    Stream,
}

impl Trouble {
    /// Notes a cause, or its end. It is logged when it is another than before: attempts to connect repeat themselves.
    fn note(&self, kind: Kind, cause: Option<String>) {
        let known = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner)[kind as usize];
        match &cause {
            // The client's events say less than what is known of each server: "IO error", "IO error: … refused".
            Some(cause) if known.as_ref().is_some_and(|known| known.starts_with(cause.as_str())) => return,
            Some(cause) => match kind {
                Kind::Connection => tracing::warn!(cause, "NATS is not connected"),
                Kind::Stream => tracing::error!(cause, "the stream is not as it should be"),
            },
            None => {}
        }
        *known = cause;
    }

    fn get(&self) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().flatten().next().cloned()
    }
}

/// The result of publishing one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Publication {
    /// The stream has it.
    Acknowledged,
    /// NATS was not reached, or did not answer.
    Unreached,
    /// The stream refused it.
    Refused(String),
    /// It is longer than the server takes, now and ever.
    TooLong,
}

impl Nats {
    pub(super) fn new(config: NatsConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            client: OnceCell::new(),
            context: OnceCell::new(),
            stream_exists: OnceCell::new(),
            connected: Arc::default(),
            failed: Arc::default(),
            trouble: Arc::default(),
            started: Instant::now(),
            broken_until: AtomicU64::new(0),
        }))
    }

    /// The client; it connects, and reconnects, in the background.
    async fn client(&self) -> anyhow::Result<&Client> {
        let connect = async || {
            let config = &self.0.config;
            let (connected, failed) = (self.0.connected.clone(), self.0.failed.clone());
            let (trouble, of_servers) = (self.0.trouble.clone(), self.0.trouble.clone());
            let mut options = ConnectOptions::new()
                .name("relaytrace")
                .retry_on_initial_connect()
                // Our own decisions wake our own polls without a way through the server.
                .no_echo()
                .ping_interval(Duration::from_secs(2))
                .connection_timeout(Duration::from_secs(2))
                .event_callback(move |event| {
                    match event {
                        Event::Connected => {
                            trouble.note(Kind::Connection, None);
                            connected.notify_waiters();
                        }
                        Event::ClientError(error) => {
                            let cause = error.to_string();
                            let cause = cause.strip_prefix("nats: ").unwrap_or(&cause).to_owned();
                            trouble.note(Kind::Connection, Some(cause));
                            failed.notify_waiters();
                        }
                        // A refused subject, for one: what the permissions lack stands in it.
                        Event::ServerError(error) => trouble.note(Kind::Stream, Some(error.to_string())),
                        _ => {}
                    }
                    std::future::ready(())
                })
                // The first attempt is number 1.
                .reconnect_delay_callback(|attempt| {
                    Duration::from_millis(250.min(20 * (attempt as u64).saturating_sub(1)))
                });
            // Asked which server to try next, we leave that to the client: what it knows of each is in the question.
            options = options.reconnect_to_server_callback(move |servers, _| {
                if let Some(cause) = servers.into_iter().find_map(|server| server.last_error) {
                    of_servers.note(Kind::Connection, Some(cause));
                }
                std::future::ready(None)
            });
            if let Some(credentials) = &config.credentials {
                options = options.credentials(credentials.expose_secret())?;
            }
            options = match url_login(&config.url)? {
                Some(Login::Password(user, password)) => options.user_and_password(user, password),
                Some(Login::Token(token)) => options.token(token),
                None => options,
            };
            let servers = config.url.split(',').map(str::parse).collect::<Result<Vec<ServerAddr>, _>>()?;
            anyhow::Ok(within(ACK_TIMEOUT, "the client", options.connect(servers)).await??)
        };
        self.0.client.get_or_try_init(connect).await
    }

    /// The one context of this process: it holds the room for acknowledgements that are awaited.
    async fn context(&self, client: &Client) -> &Context {
        let new = async || {
            let mut context = jetstream::new(client.clone());
            context.set_timeout(ACK_TIMEOUT);
            context
        };
        self.0.context.get_or_init(new).await
    }

    /// Why events do not get through, if it is known.
    pub(super) fn trouble(&self) -> Option<String> {
        self.0.trouble.get()
    }

    async fn ensure_stream(&self, context: &Context) -> anyhow::Result<()> {
        let subjects = within(ACK_TIMEOUT, "the stream", stream::ensure(context, self.0.config.replicas)).await??;
        let is_ours = subjects.iter().any(|subject| subject == stream::SUBJECTS);
        let cause =
            format!("{STREAM} takes the subjects {subjects:?}, which must have {} among them", stream::SUBJECTS);
        self.0.trouble.note(Kind::Stream, (!is_ours).then_some(cause));
        Ok(())
    }

    pub(super) fn is_connected_now(&self) -> bool {
        self.0.client.get().is_some_and(|client| client.connection_state() == State::Connected)
    }

    /// Tries to connect, and to find or make the stream, until the first failure.
    pub(super) async fn connect(&self) {
        let connected = async {
            let client = self.wait_until_connected(CONNECT_TIMEOUT).await?;
            let context = self.context(client).await;
            self.0.stream_exists.get_or_try_init(|| self.ensure_stream(context)).await
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

    /// Publishes all, pipelined in parts, and says what became of each. Once a part has not got through, the others are
    /// not tried.
    pub(super) async fn publish(&self, events: &[OutboxEvent]) -> Vec<Publication> {
        let mut publications = Vec::with_capacity(events.len());
        for part in events.chunks(PART) {
            if self.is_broken() {
                break;
            }
            match self.publish_part(part).await {
                Ok(of_part) => {
                    let is_silent = of_part.contains(&Publication::Unreached);
                    publications.extend(of_part);
                    if is_silent {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "events wait in the outbox: NATS does not take them");
                    self.break_off().await;
                }
            }
        }
        publications.resize(events.len(), Publication::Unreached);
        publications
    }

    async fn publish_part(&self, events: &[OutboxEvent]) -> anyhow::Result<Vec<Publication>> {
        let client = self.wait_until_connected(CONNECT_TIMEOUT).await?;
        let context = self.context(client).await;
        self.0.stream_exists.get_or_try_init(|| self.ensure_stream(context)).await?;

        // A connection that takes nothing holds a sender for ever: its queue is full.
        let sent = within(ACK_TIMEOUT, "its queue", stream::send(context, events)).await??;
        let publications = join_all(events.iter().zip(sent).map(|(event, sent)| stream::outcome(context, event, sent)));
        // Each ends by itself; this is for what does not.
        let publications = within(2 * ACK_TIMEOUT, "an acknowledgement", publications).await?;
        let failure = publications.iter().find(|publication| **publication != Publication::Acknowledged);
        if let Some(failure) = failure {
            // The stream may have been lost with its store: made anew, it takes the next attempt.
            tracing::warn!(?failure, "the stream did not acknowledge an event");
            self.ensure_stream(context).await?;
        }
        Ok(publications)
    }

    /// What the newest messages of the stream tell.
    pub(super) async fn newest(&self, count: u64) -> anyhow::Result<Vec<ToldEntry>> {
        let client = self.wait_until_connected(CONNECT_TIMEOUT).await?;
        let context = self.context(client).await;
        within(2 * ACK_TIMEOUT, "the newest messages", stream::newest(context, count)).await?
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
            drop(within(CONNECT_TIMEOUT, "a new connection", client.force_reconnect()).await);
        }
    }

    /// Subjects on which other processes announce deliveries to polls.
    pub(super) async fn subscribe(&self) -> anyhow::Result<impl Stream<Item = Message> + use<>> {
        let client = self.client().await?;
        let subscribed = async {
            let [decided, replayed] = FOR_POLLS.map(|kind| client.subscribe(format!("handoff.{kind}.*")));
            let announced = select(decided.await?, replayed.await?);
            if self.is_connected_now() {
                client.flush().await?;
            }
            anyhow::Ok(announced)
        };
        within(SUBSCRIBE_TIMEOUT, "a subscription", subscribed).await?
    }
}

/// Waits for an operation on NATS for at most this time.
pub(super) async fn within<T>(longest: Duration, what: &str, waiting: impl Future<Output = T>) -> anyhow::Result<T> {
    let outcome = tokio::time::timeout(longest, waiting).await;
    outcome.map_err(|_| anyhow::anyhow!("NATS: {what} did not come within {longest:?}"))
}

/// How a URL says who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Login {
    Password(String, String),
    Token(String),
}

/// User and password, or token, of the first URL that has any, percent-decoded: the client sends none by itself.
fn url_login(urls: &str) -> anyhow::Result<Option<Login>> {
    for url in urls.split(',') {
        let server: ServerAddr = url.parse()?;
        let decoded = |text: &str| anyhow::Ok(percent_decode_str(text).decode_utf8()?.into_owned());
        match (server.username().filter(|user| !user.is_empty()), server.password()) {
            (Some(user), Some(password)) => return Ok(Some(Login::Password(decoded(user)?, decoded(password)?))),
            (Some(token), None) => return Ok(Some(Login::Token(decoded(token)?))),
            (None, _) => {}
        }
    }
    Ok(None)
}

/// The fault of these URLs of one cluster, or of the contents of a `.creds` file; found when a process starts.
pub(crate) fn check_config(urls: &str, credentials: Option<&str>) -> Result<(), &'static str> {
    if !urls.split(',').all(|url| !url.is_empty() && url.trim() == url && url.parse::<ServerAddr>().is_ok()) {
        return Err("is not a URL of NATS, or several, comma-separated");
    }
    let login = url_login(urls).map_err(|_| "has a user or password that is not percent-encoded UTF-8")?;
    match credentials {
        Some(_) if login.is_some() => Err("has a user, and NATS_CREDENTIALS has another"),
        _ => Ok(()),
    }
}

/// The agent and the request that a message is about, by its subject and its `Nats-Msg-Id`, which begins with the request's
/// id.
pub(super) fn announced(message: &Message) -> Option<(AgentId, RequestId)> {
    let agent_id = message.subject.rsplit('.').next()?.parse().ok()?;
    let id = message.headers.as_ref()?.get(async_nats::header::NATS_MESSAGE_ID)?;
    Some((agent_id, id.as_str().split('/').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_urls_login_is_percent_decoded() {
        let password = |user: &str, password: &str| Some(Login::Password(user.into(), password.into()));
        for (urls, login) in [
            ("nats://host", None),
            ("host:4222", None),
            ("nats://user:p%40ss@host", password("user", "p@ss")),
            ("nats://token@host", Some(Login::Token("token".into()))),
            ("tls://to%2Fken%3A@host:4222", Some(Login::Token("to/ken:".into()))),
            ("nats://one,nats://a:b@two", password("a", "b")),
        ] {
            assert_eq!(url_login(urls).unwrap(), login, "{urls}");
            assert!(check_config(urls, None).is_ok(), "{urls}");
        }
        for bad in ["nats://one, nats://two", "nats://one,", "http://[", "nats://user:%ff@host"] {
            assert!(check_config(bad, None).is_err(), "{bad}");
        }
        assert!(check_config("nats://user:password@host", Some("credentials")).is_err());
    }
}
