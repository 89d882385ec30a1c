//! A server that is reached by streamable HTTP.
//!
//! Each message is a POST of its own; the answers, and what comes with them, go to the session as they came. Up to
//! revision 2025-11-25 a session id ties the POSTs together, and a GET brings what the server says unasked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Response};
use sse_stream::SseStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::caller::is_stateless;
use crate::child::{CHANNEL, Server};
use crate::headers::{LAST_EVENT, Mirrored, SESSION, VERSION};
use crate::lines::LONGEST;
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
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A client for servers at addresses.
pub fn client() -> reqwest::Result<reqwest::Client> {
    let agent = concat!("relaytrace-mcp/", env!("CARGO_PKG_VERSION"));
    let builder = reqwest::Client::builder().user_agent(agent).connect_timeout(CONNECT_DEADLINE);
    // A call that was approved for this server goes to no other.
    builder.redirect(reqwest::redirect::Policy::none()).build()
}

/// Connects to the server at an address, for one session. The headers go with every call.
pub fn connect(http: reqwest::Client, url: Url, headers: HeaderMap, from_server: mpsc::Sender<String>) -> Server {
    let (to_server, messages) = mpsc::channel(CHANNEL);
    let ending = CancellationToken::new();
    let state = Mutex::default();
    let upstream = Arc::new(Upstream {
        http,
        url,
        headers,
        from_server,
        state,
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
    Server { to_server, ending, ended }
}

#[derive(Debug)]
struct Upstream {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    from_server: mpsc::Sender<String>,
    state: Mutex<State>,
    ending: CancellationToken,
    posts: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    session: Option<HeaderValue>,
    version: Option<HeaderValue>,
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
    async fn post_all(self: Arc<Self>, mut messages: mpsc::Receiver<String>) {
        while let Some(text) = messages.recv().await {
            let Some(members) = Members::look(&text) else { continue };
            match kind(&members) {
                Kind::Request { id, method } => {
                    if method == "initialize" {
                        let mut state = self.state();
                        (state.session, state.version) = (None, None);
                    }
                    let stopped = self.ending.child_token();
                    if members
                        .inner("params")
                        .and_then(|params| params.inner("_meta"))
                        .as_ref()
                        .is_some_and(is_stateless)
                    {
                        self.state().open.insert(id.clone(), stopped.clone());
                    }
                    let upstream = self.clone();
                    self.posts.spawn(async move {
                        stopped.run_until_cancelled(upstream.request(&text, &id)).await;
                        upstream.state().open.remove(&id);
                    });
                }
                Kind::Notification { method } if method == "notifications/cancelled" && self.is_closed(&members) => {}
                // In their order: what follows may depend on them.
                Kind::Notification { method } => {
                    let is_accepted = self.notify(&text).await;
                    if is_accepted && method == "notifications/initialized" {
                        let (upstream, ending) = (self.clone(), self.ending.clone());
                        self.posts.spawn(async move { ending.run_until_cancelled(upstream.listen()).await });
                    }
                }
                _ => drop(self.notify(&text).await),
            }
        }
    }

    /// Whether a cancellation was carried out by closing the response.
    fn is_closed(&self, members: &Members<'_>) -> bool {
        let id = members.inner("params").and_then(|params| params.get("requestId"));
        let open = id.and_then(|id| self.state().open.remove(id.get()));
        open.inspect(CancellationToken::cancel).is_some()
    }

    /// A message that gets no answer.
    async fn notify(&self, text: &str) -> bool {
        let Ok(posted) = timeout(NOTIFY_DEADLINE, self.post(text)).await else {
            tracing::warn!("the server does not take a message in time");
            return false;
        };
        match posted {
            Ok(response) if response.status().is_success() => true,
            Ok(response) => {
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
    async fn request(&self, text: &str, id: &str) {
        if let Err(why) = self.answered(text, id).await {
            tracing::warn!("a request failed: {why}");
            self.hand_on(message::lost(id, &why)).await;
        }
    }

    async fn answered(&self, text: &str, id: &str) -> Result<(), String> {
        let mut response =
            self.post(text).await.map_err(|error| format!("the server cannot be reached: {}", said(error)))?;
        let status = response.status();
        if status.is_success() && is_of(&response, "text/event-stream") {
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
        let body = whole(response).await?;
        let Some(members) = Members::look(&body) else {
            return Err(format!("the server answered {status}, and no JSON-RPC message"));
        };
        let is_answer = members.get("result").or(members.get("error")).is_some();
        if !is_answer {
            return Err(format!("the server answered {status}, and no response"));
        }
        if status.is_success() {
            self.learn(&members, session);
        }
        // An error to what could not be read has no id.
        self.hand_on(if members.get("id").is_some_and(|own| own.get() == id) { body } else { members.with("id", id) })
            .await;
        Ok(())
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
        let body: reqwest::Body = http::Response::from(response).into_body();
        let mut events = std::pin::pin!(SseStream::new(body));
        while let Some(Ok(event)) = events.next().await {
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

    async fn post(&self, text: &str) -> reqwest::Result<Response> {
        let mut headers = self.common();
        if let Some(members) = Members::look(text) {
            let own = self.state().mirrored.headers(&members);
            headers.extend(own);
        }
        let post = self.http.post(self.url.clone()).headers(headers).header(header::ACCEPT, BOTH);
        post.header(header::CONTENT_TYPE, "application/json").body(text.to_owned()).send().await
    }

    async fn get(&self, place: &Place) -> reqwest::Result<Response> {
        let mut get = self.http.get(self.url.clone()).headers(self.common()).header(header::ACCEPT, EVENTS);
        if let Some(last) = &place.last_event {
            get = get.header(LAST_EVENT, last);
        }
        get.send().await
    }

    fn common(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        let state = self.state();
        for (name, value) in [(SESSION, &state.session), (VERSION, &state.version)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        headers
    }

    /// Says that the session is over, where there is one.
    async fn close(&self) {
        if self.state().session.is_none() {
            return;
        }
        let delete = self.http.request(Method::DELETE, self.url.clone()).headers(self.common());
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

/// The body of a response, up to the longest message.
async fn whole(mut response: Response) -> Result<String, String> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| format!("the response broke off: {}", said(error)))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST {
            return Err(format!("a response of more than {LONGEST} bytes"));
        }
    }
    if body.is_empty() {
        let hint = if status == StatusCode::UNAUTHORIZED { ": it wants authorization (--header)" } else { "" };
        return Err(format!("the server answered {status}{hint}"));
    }
    String::from_utf8(body).map_err(|_| "the response is no UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_not_said_where_a_call_of_it_fails() {
        let (from_server, mut said) = mpsc::channel(1);
        let url = Url::parse("http://user:hunter2@127.0.0.1:1/mcp?key=hunter3").unwrap();
        let server = connect(client().unwrap(), url, HeaderMap::new(), from_server);
        server.to_server.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#.to_owned()).await.unwrap();
        let told = said.recv().await.unwrap();
        assert!(
            told.contains("cannot be reached") && !told.contains("hunter") && !told.contains("127.0.0.1"),
            "{told}"
        );
        assert!(message::is_lost(&Members::look(&told).unwrap()));
        server.end().await;
    }
}
