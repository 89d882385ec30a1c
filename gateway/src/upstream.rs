//! A server that is reached by streamable HTTP.
//!
//! Each message is a POST of its own; the answers, and what comes with them, go to the session as they came. Up to
//! revision 2025-11-25 a session id ties the POSTs together, and a GET brings what the server says unasked.

mod body;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Response};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::body::{events, first_response, whole};
use crate::Remote;
use crate::caller::is_stateless;
use crate::child::{CHANNEL, Outgoing, Server};
use crate::headers::{LAST_EVENT, Mirrored, SESSION, VERSION};
use crate::heads::{Head, Heads, Refusal};
use crate::message::{self, Kind, Members, kind};

/// How long a connection may take to be made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may take to accept a message that gets no answer: those after it wait.
const NOTIFY_DEADLINE: Duration = Duration::from_secs(30);
/// How long the end of a session may take to be told.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Before a stream is taken up again, where the server says nothing else, and at the most.
const RESUME_AFTER: Duration = Duration::from_secs(1);
const RESUME_AFTER_AT_MOST: Duration = Duration::from_secs(30);
/// How often in a row a stream is taken up again that brings nothing.
const MOST_RESUMED: u32 = 5;
const INITIALIZED: &str = "notifications/initialized";
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A client for servers at addresses.
pub fn client() -> reqwest::Result<reqwest::Client> {
    let agent = concat!("relaytrace-mcp/", env!("CARGO_PKG_VERSION"));
    let builder = reqwest::Client::builder().user_agent(agent).connect_timeout(CONNECT_DEADLINE);
    // A call that was approved for this server goes to no other.
    builder.redirect(reqwest::redirect::Policy::none()).build()
}

/// Connects to the server at an address, for one session.
///
/// `shown`: what its client shows for authorization. `begins_again`: a session that the server has lost is begun again
/// here; a client by HTTP is told, and does that itself.
pub fn connect(
    remote: Remote,
    shown: Option<HeaderValue>,
    begins_again: bool,
    from_server: mpsc::Sender<String>,
) -> Server {
    let (to_server, messages) = mpsc::channel(CHANNEL);
    let (ending, heads) = (CancellationToken::new(), Arc::<Heads>::default());
    let upstream = Arc::new(Upstream {
        remote,
        from_server,
        begins_again,
        state: Mutex::new(State { shown, ..State::default() }),
        beginning: tokio::sync::Mutex::default(),
        accepted: Notify::new(),
        heads: heads.clone(),
        ending: ending.clone(),
        posts: TaskTracker::new(),
    });
    let ended = tokio::spawn(async move {
        let posting = upstream.clone().post_all(messages);
        let _ended = upstream.ending.clone().run_until_cancelled_owned(posting).await;
        upstream.posts.close();
        upstream.close().await;
        "closed".to_owned()
    });
    Server { to_server, heads, ending, ended }
}

#[derive(Debug)]
struct Upstream {
    remote: Remote,
    from_server: mpsc::Sender<String>,
    begins_again: bool,
    state: Mutex<State>,
    /// One begins a lost session again at a time.
    beginning: tokio::sync::Mutex<()>,
    /// The server has accepted what a client showed for authorization.
    accepted: Notify,
    heads: Arc<Heads>,
    ending: CancellationToken,
    posts: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    session: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// What the server accepted last for authorization.
    shown: Option<HeaderValue>,
    /// How the client began the session.
    initialize: Option<String>,
    mirrored: Mirrored,
    /// Requests of revision 2026-07-28: there a request is cancelled by closing its response.
    open: HashMap<String, CancellationToken>,
}

/// Where a stream was left off.
#[derive(Default)]
struct Place {
    last_event: Option<HeaderValue>,
    retry: Option<Duration>,
    /// It has brought something since it was opened.
    has_brought: bool,
}

impl Upstream {
    async fn post_all(self: Arc<Self>, mut messages: mpsc::Receiver<Outgoing>) {
        while let Some(Outgoing { text, shown }) = messages.recv().await {
            let Some(members) = Members::look(&text) else { continue };
            match kind(&members) {
                Kind::Request { id, method } => {
                    if method == "initialize" {
                        let mut state = self.state();
                        (state.session, state.version, state.initialize) = (None, None, Some(text.clone()));
                    }
                    let stopped = self.ending.child_token();
                    let meta = members.inner("params").and_then(|params| params.inner("_meta"));
                    if meta.as_ref().is_some_and(is_stateless) {
                        self.state().open.insert(id.clone(), stopped.clone());
                    }
                    let upstream = self.clone();
                    self.posts.spawn(async move {
                        stopped.run_until_cancelled(upstream.request(&text, &id, shown.as_ref())).await;
                        upstream.state().open.remove(&id);
                    });
                }
                Kind::Notification { method } if method == "notifications/cancelled" && self.is_closed(&members) => {}
                // In their order: what follows may depend on them.
                Kind::Notification { method } => {
                    let is_accepted = self.notify(&text, shown.as_ref()).await;
                    if is_accepted && method == INITIALIZED {
                        self.spawn_listen();
                    }
                }
                _ => drop(self.notify(&text, shown.as_ref()).await),
            }
        }
    }

    fn spawn_listen(self: &Arc<Self>) {
        let (upstream, ending) = (self.clone(), self.ending.clone());
        self.posts.spawn(async move { ending.run_until_cancelled(upstream.listen()).await });
    }

    /// Whether a cancellation was carried out by closing the response.
    fn is_closed(&self, members: &Members<'_>) -> bool {
        let id = members.inner("params").and_then(|params| params.get("requestId"));
        let open = id.and_then(|id| self.state().open.remove(id.get()));
        open.inspect(CancellationToken::cancel).is_some()
    }

    /// A message that gets no answer.
    async fn notify(self: &Arc<Self>, text: &str, shown: Option<&HeaderValue>) -> bool {
        let Ok(posted) = timeout(NOTIFY_DEADLINE, self.posted(text, shown)).await else {
            tracing::warn!("the server does not take a message in time");
            return false;
        };
        match posted {
            Ok((response, _)) if response.status().is_success() => true,
            Ok((response, _)) => {
                tracing::warn!("the server does not take a message: {}", response.status());
                false
            }
            Err(error) => {
                tracing::warn!("the server cannot be reached: {}", said(error));
                false
            }
        }
    }

    /// A request: whatever happens, its client gets an answer.
    async fn request(self: &Arc<Self>, text: &str, id: &str, shown: Option<&HeaderValue>) {
        if let Err(why) = self.answered(text, id, shown).await {
            tracing::warn!("a request failed: {why}");
            self.hand_on(message::lost(id, &why)).await;
        }
        self.heads.forget(id);
    }

    async fn answered(self: &Arc<Self>, text: &str, id: &str, shown: Option<&HeaderValue>) -> Result<(), String> {
        self.heads.sent(id);
        let (mut response, had_session) = match self.posted(text, shown).await {
            Ok(posted) => posted,
            // The server has not seen it.
            Err(error) if error.is_connect() => {
                let why = format!("the server cannot be reached: {}", said(error));
                tracing::warn!("a request failed: {why}");
                self.hand_on(message::error(id, message::INTERNAL_ERROR, &why)).await;
                return Ok(());
            }
            Err(error) => return Err(format!("the server cannot be reached: {}", said(error))),
        };
        let status = response.status();
        if !status.is_success() {
            return self.refused(response, id, had_session).await;
        }
        self.heads.tell(id, Head::Accepted);
        if is_of(&response, "text/event-stream") {
            let mut place = Place::default();
            let mut resumed = 0;
            loop {
                if self.stream(response, Some(id), &mut place).await {
                    return Ok(());
                }
                resumed = if place.has_brought { 0 } else { resumed + 1 };
                if place.last_event.is_none() || resumed > MOST_RESUMED {
                    return Err("the server ended the response before its end".to_owned());
                }
                sleep(place.retry.unwrap_or(RESUME_AFTER).min(RESUME_AFTER_AT_MOST)).await;
                response = self
                    .get(&place)
                    .await
                    .map_err(|error| format!("a response cannot be taken up: {}", said(error)))?;
                if !response.status().is_success() {
                    return Err(format!("a response cannot be taken up: {}", response.status()));
                }
            }
        }
        let session = response.headers().get(SESSION).cloned();
        let body = String::from_utf8(whole(response).await?).map_err(|_| "the response is no UTF-8".to_owned())?;
        let members = Members::look(&body).filter(|members| members.get("result").or(members.get("error")).is_some());
        let Some(members) = members else {
            return Err(format!("the server answered {status}, and no response"));
        };
        self.learn(&members, session);
        self.hand_on_to(id, &members).await;
        Ok(())
    }

    /// The server does not take a request: its client is told as it came.
    async fn refused(&self, response: Response, id: &str, had_session: bool) -> Result<(), String> {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = whole(response).await?;
        self.heads.tell(id, Head::Refused(Refusal::new(status, &headers, body.clone().into())));
        let text = String::from_utf8(body).unwrap_or_default();
        match Members::look(&text) {
            Some(members) if members.get("error").is_some_and(|error| error.get().starts_with('{')) => {
                self.hand_on_to(id, &members).await;
            }
            _ if status.is_server_error() => return Err(format!("the server answered {status}")),
            // It was not carried out.
            _ => {
                let hint = if status == StatusCode::UNAUTHORIZED { ": it wants authorization (--header)" } else { "" };
                let why = format!("the server answered {status}{hint}");
                tracing::warn!("a request was refused: {why}");
                self.hand_on(message::error(id, message::INTERNAL_ERROR, &why)).await;
            }
        }
        if status == StatusCode::NOT_FOUND && had_session {
            tracing::warn!("the server has lost the session");
            self.ending.cancel();
        }
        Ok(())
    }

    /// Hands a response on; an error to what could not be read has no id.
    async fn hand_on_to(&self, id: &str, members: &Members<'_>) {
        self.hand_on(members.with("id", id)).await;
    }

    /// Posts a message. Where the server has lost the session, and the client cannot begin another one, that is done here.
    async fn posted(self: &Arc<Self>, text: &str, shown: Option<&HeaderValue>) -> reqwest::Result<(Response, bool)> {
        let session = self.state().session.clone();
        let response = self.post(text, shown).await?;
        let is_lost = response.status() == StatusCode::NOT_FOUND && session.is_some();
        if is_lost && self.begins_again && self.begun_again(session.as_ref()).await {
            return Ok((self.post(text, shown).await?, true));
        }
        Ok((response, session.is_some()))
    }

    /// Begins the session again as its client began it; what it had set there, such as subscriptions, is not repeated.
    async fn begun_again(self: &Arc<Self>, lost: Option<&HeaderValue>) -> bool {
        let _one = self.beginning.lock().await;
        let initialize = {
            let mut state = self.state();
            if state.session.as_ref() != lost {
                return state.session.is_some();
            }
            (state.session, state.version) = (None, None);
            state.initialize.clone()
        };
        let beginning = async {
            let response = self.post(initialize.as_deref()?, None).await.ok()?;
            let session = response.headers().get(SESSION).cloned();
            let text = if is_of(&response, "text/event-stream") {
                first_response(response).await?
            } else {
                String::from_utf8(whole(response).await.ok()?).ok()?
            };
            let members = Members::look(&text).filter(|members| members.get("result").is_some())?;
            self.learn(&members, session);
            let initialized = format!(r#"{{"jsonrpc":"2.0","method":"{INITIALIZED}"}}"#);
            Some(self.post(&initialized, None).await.ok()?.status().is_success())
        };
        let has_begun = timeout(NOTIFY_DEADLINE, beginning).await.ok().flatten() == Some(true);
        if has_begun {
            tracing::warn!("the server had lost the session: it was begun again");
            self.spawn_listen();
        }
        has_begun
    }

    /// What the server says unasked, for as long as there is a session.
    async fn listen(&self) {
        let mut place = Place::default();
        let mut resumed = 0;
        while resumed <= MOST_RESUMED {
            match self.get(&place).await {
                Ok(response) if response.status().is_success() && is_of(&response, "text/event-stream") => {
                    self.stream(response, None, &mut place).await;
                }
                Ok(response) if is_about_authorization(response.status()) => {
                    self.accepted.notified().await;
                    continue;
                }
                // It says nothing unasked.
                Ok(response) if response.status().is_client_error() => return,
                Ok(_) | Err(_) => place.has_brought = false,
            }
            resumed = if place.has_brought { 0 } else { resumed + 1 };
            sleep(place.retry.unwrap_or(RESUME_AFTER).min(RESUME_AFTER_AT_MOST)).await;
        }
    }

    /// Hands on a stream's messages; whether the response to this request was one of them.
    async fn stream(&self, response: Response, id: Option<&str>, place: &mut Place) -> bool {
        place.has_brought = false;
        let session = response.headers().get(SESSION).cloned();
        let unread = Arc::new(AtomicUsize::new(0));
        let mut events = std::pin::pin!(events(response, unread.clone()));
        while let Some(Ok(event)) = events.next().await {
            unread.store(0, Ordering::Relaxed);
            place.retry = event.retry.map(Duration::from_millis).or(place.retry);
            place.last_event = event.id.and_then(|id| HeaderValue::from_str(&id).ok()).or(place.last_event.take());
            let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
            place.has_brought = true;
            let mut is_last = false;
            if let Some(members) = Members::look(&data) {
                is_last = matches!(kind(&members), Kind::Response { id: of } if Some(of.as_str()) == id);
                if is_last {
                    self.learn(&members, session.clone());
                }
            }
            self.hand_on(data).await;
            if is_last {
                return true;
            }
        }
        false
    }

    /// Takes from a response what later calls need.
    fn learn(&self, members: &Members<'_>, session: Option<HeaderValue>) {
        let mut state = self.state();
        let version = members.inner("result").and_then(|result| result.text("protocolVersion"));
        state.version = version.and_then(|version| HeaderValue::from_str(&version).ok()).or(state.version.take());
        state.session = session.or(state.session.take());
        state.mirrored.learn(members);
    }

    async fn post(&self, text: &str, shown: Option<&HeaderValue>) -> reqwest::Result<Response> {
        let mut headers = self.common(shown);
        if let Some(members) = Members::look(text) {
            let own = self.state().mirrored.headers(&members);
            headers.extend(own);
        }
        let Remote { http, url, .. } = &self.remote;
        let post = http.post(url.clone()).headers(headers).header(header::ACCEPT, BOTH);
        let response = post.header(header::CONTENT_TYPE, "application/json").body(text.to_owned()).send().await?;
        match shown {
            Some(shown) if response.status().is_success() => {
                self.state().shown = Some(shown.clone());
                self.heads.judge(shown, true);
                self.accepted.notify_waiters();
            }
            Some(shown) if response.status() == StatusCode::UNAUTHORIZED => self.heads.judge(shown, false),
            _ => {}
        }
        Ok(response)
    }

    async fn get(&self, place: &Place) -> reqwest::Result<Response> {
        let Remote { http, url, .. } = &self.remote;
        let mut get = http.get(url.clone()).headers(self.common(None)).header(header::ACCEPT, EVENTS);
        if let Some(last) = &place.last_event {
            get = get.header(LAST_EVENT, last);
        }
        get.send().await
    }

    /// The headers of every call; `--header` counts before what a client shows.
    fn common(&self, shown: Option<&HeaderValue>) -> HeaderMap {
        let mut headers = self.remote.headers.clone();
        let state = self.state();
        for (name, value) in [(SESSION, &state.session), (VERSION, &state.version)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        if let (Some(shown), None) = (shown.or(state.shown.as_ref()), headers.get(header::AUTHORIZATION)) {
            headers.insert(header::AUTHORIZATION, shown.clone());
        }
        headers
    }

    /// Says that the session is over, where there is one.
    async fn close(&self) {
        if self.state().session.is_none() {
            return;
        }
        let Remote { http, url, .. } = &self.remote;
        let delete = http.request(Method::DELETE, url.clone()).headers(self.common(None));
        drop(delete.timeout(CLOSE_DEADLINE).send().await);
    }

    async fn hand_on(&self, text: String) {
        drop(self.from_server.send(text).await);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error in words, without the address: that may hold a secret.
fn said(error: reqwest::Error) -> String {
    error.without_url().to_string()
}

fn is_of(response: &Response, kind: &str) -> bool {
    let of = response.headers().get(header::CONTENT_TYPE).and_then(|of| of.to_str().ok());
    of.is_some_and(|of| of.to_lowercase().starts_with(kind))
}

fn is_about_authorization(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

#[cfg(test)]
mod tests;
