//! Clients by streamable HTTP, on an address of this machine.
//!
//! Up to revision 2025-11-25 a client begins a session with `initialize`, and has a server of its own. Stateless clients
//! (2026-07-28) of one principal, which the header `Authorization` tells apart, share one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use url::{Host, Url};
use uuid::Uuid;

use crate::Way;
use crate::caller::PROTOCOL_VERSION;
use crate::child::{CHANNEL, Server};
use crate::guard::Guard;
use crate::headers::SESSION;
use crate::lines::LONGEST;
use crate::message::{INVALID_REQUEST, Kind, Members, kind as kind_of, unbatched};
use crate::routes::{Routes, cancelled};
use crate::session::Session;

/// Most sessions; the one that was idle longest makes room.
const MOST_SESSIONS: usize = 256;
/// A response that comes within this time is sent whole, with a status of its own; later ones are streams.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Between two signs of life of a stream.
const ALIVE: Duration = Duration::from_secs(15);

/// Serves clients until `stop`.
pub async fn serve(guard: Arc<Guard>, way: Way, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let front = Arc::new(Front { guard, way, sessions: Mutex::default() });
    let routes = post(posted).get(listened).delete(closed).layer(DefaultBodyLimit::max(LONGEST));
    let app = Router::new().fallback_service(routes.with_state(front.clone())).layer(from_fn(only_from_here));
    axum::serve(listener, app).with_graceful_shutdown(front.clone().ended(stop)).await
}

/// A page in a browser could reach this address, too: by its own name for it, or from its own origin.
async fn only_from_here(request: Request, next: Next) -> Response {
    if !is_from_here(request.headers()) {
        return (StatusCode::FORBIDDEN, "only for clients on this machine").into_response();
    }
    next.run(request).await
}

fn is_from_here(headers: &HeaderMap) -> bool {
    let is_here = |url: String| match Url::parse(&url).ok().as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    };
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?").to_owned());
    text(header::HOST).is_some_and(|host| is_here(format!("http://{host}"))) && text(header::ORIGIN).is_none_or(is_here)
}

#[derive(Debug)]
struct Front {
    guard: Arc<Guard>,
    way: Way,
    sessions: Mutex<HashMap<String, Arc<Conversation>>>,
}

/// One client and its server; or the stateless clients of one principal and theirs.
#[derive(Debug)]
struct Conversation {
    session: Arc<Session>,
    routes: Mutex<Routes>,
    is_stateless: bool,
    used_at: Mutex<Instant>,
    ending: CancellationToken,
}

impl Front {
    /// The conversation of this session.
    fn find(&self, id: &str) -> Option<Arc<Conversation>> {
        let found = self.sessions().get(id).cloned()?;
        *found.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Some(found)
    }

    /// A new conversation, with a server of its own.
    fn begin(
        self: &Arc<Self>,
        id: &str,
        headers: &HeaderMap,
        is_stateless: bool,
    ) -> std::io::Result<Arc<Conversation>> {
        let (to_client, mut told) = mpsc::channel(CHANNEL);
        let (from_server, mut said) = mpsc::channel::<String>(CHANNEL);
        let server = self.way.start_for(headers, from_server)?;
        let principal = headers.get(header::AUTHORIZATION).map(hashed).unwrap_or_default();
        let session = Session::new(self.guard.clone(), principal, to_client, server.to_server.clone());
        let conversation = Arc::new(Conversation {
            session: session.clone(),
            routes: Mutex::new(Routes::new(is_stateless)),
            is_stateless,
            used_at: Mutex::new(Instant::now()),
            ending: CancellationToken::new(),
        });
        tokio::spawn(async move {
            while let Some(text) = said.recv().await {
                session.said(&text).await;
            }
        });
        let routed = conversation.clone();
        tokio::spawn(async move {
            while let Some(text) = told.recv().await {
                let way = routed.routes().way(text);
                if let Some((to, text)) = way {
                    // A client that has gone gets nothing.
                    drop(to.send(text).await);
                }
            }
        });
        tokio::spawn(self.clone().watch(id.to_owned(), conversation.clone(), server));
        self.make_room();
        self.sessions().insert(id.to_owned(), conversation.clone());
        Ok(conversation)
    }

    /// Ends a conversation with its server, or when it is told to.
    async fn watch(self: Arc<Self>, id: String, conversation: Arc<Conversation>, mut server: Server) {
        let ended = tokio::select! {
            ended = &mut server.ended => Some(ended),
            () = conversation.ending.cancelled() => None,
        };
        {
            let mut sessions = self.sessions();
            if sessions.get(&id).is_some_and(|known| Arc::ptr_eq(known, &conversation)) {
                sessions.remove(&id);
            }
        }
        conversation.session.hang_up();
        match ended {
            Some(how) => tracing::warn!("the server has ended: {}", how.unwrap_or_else(|error| error.to_string())),
            None => drop(server.end().await),
        }
        conversation.session.end().await;
        // Streams that are still open end.
        *conversation.routes() = Routes::default();
    }

    fn make_room(&self) {
        let mut sessions = self.sessions();
        if sessions.len() < MOST_SESSIONS {
            return;
        }
        let used = |known: &Conversation| *known.used_at.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = sessions.iter().filter(|(_, known)| known.routes().is_idle());
        let oldest = idle.min_by_key(|(_, known)| used(known)).map(|(id, _)| id.clone());
        if let Some(oldest) = oldest.and_then(|id| sessions.remove(&id)) {
            oldest.ending.cancel();
        }
    }

    /// Until it is told to stop; then every server is ended.
    async fn ended(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
        let all: Vec<_> = self.sessions().drain().map(|(_, conversation)| conversation).collect();
        for conversation in all {
            conversation.ending.cancel();
            conversation.session.end().await;
            *conversation.routes() = Routes::default();
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Conversation>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation {
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message of a client.
async fn posted(State(front): State<Arc<Front>>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(text) = String::from_utf8(body.into()) else { return refused("the body is no UTF-8") };
    let mut parts = unbatched(&text);
    let (Some(text), true) = (parts.pop(), parts.is_empty()) else { return refused("batches are not served") };
    let Ok(members) = Members::read(&text) else { return refused("the body is no JSON-RPC message") };
    let kind = kind_of(&members);
    let meta = members.inner("params").and_then(|params| params.inner("_meta"));
    let is_stateless = meta.is_some_and(|meta| meta.get(PROTOCOL_VERSION).is_some());
    let is_first = matches!(&kind, Kind::Request { method, .. } if method == "initialize");
    let named = headers.get(SESSION).and_then(|id| id.to_str().ok());
    let id = match named {
        _ if is_first => Uuid::new_v4().simple().to_string(),
        Some(named) => named.to_owned(),
        None => shared(&headers),
    };
    let conversation = match front.find(&id) {
        Some(conversation) => conversation,
        None if is_first || is_stateless => match front.begin(&id, &headers, is_stateless) {
            Ok(conversation) => conversation,
            Err(error) => {
                tracing::error!("the server cannot be started: {error}");
                return (StatusCode::BAD_GATEWAY, "the server cannot be started").into_response();
            }
        },
        None if named.is_some() => return (StatusCode::NOT_FOUND, "there is no such session").into_response(),
        None => return refused("a session begins with initialize"),
    };
    let Kind::Request { id: of_client, .. } = kind else {
        let translated = conversation.routes().translated(&text);
        conversation.session.asked(&translated.unwrap_or(text)).await;
        return StatusCode::ACCEPTED.into_response();
    };
    let (to, mut from) = mpsc::channel(CHANNEL);
    let (text, own) = conversation.routes().enter(&members, &of_client, to);
    let open = Open { conversation: conversation.clone(), own };
    conversation.session.asked(&text).await;
    let mut response = match timeout(AT_ONCE, from.recv()).await {
        Ok(Some(text))
            if Members::look(&text).is_some_and(|members| matches!(kind_of(&members), Kind::Response { .. })) =>
        {
            (status_of(&text), [(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Ok(None) => (StatusCode::BAD_GATEWAY, "the server has ended").into_response(),
        first => events(first.ok().flatten(), from, Some(open)),
    };
    if is_first && let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(SESSION, id);
    }
    response
}

/// The stream of what the server says unasked.
async fn listened(State(front): State<Arc<Front>>, headers: HeaderMap) -> Response {
    let Some(conversation) = named(&front, &headers) else {
        return (StatusCode::METHOD_NOT_ALLOWED, "there is no such session").into_response();
    };
    let (to, from) = mpsc::channel(CHANNEL);
    conversation.routes().listen(to);
    events(None, from, None)
}

/// The end of a session.
async fn closed(State(front): State<Arc<Front>>, headers: HeaderMap) -> Response {
    let Some(conversation) = named(&front, &headers) else {
        return (StatusCode::NOT_FOUND, "there is no such session").into_response();
    };
    conversation.ending.cancel();
    StatusCode::OK.into_response()
}

fn named(front: &Front, headers: &HeaderMap) -> Option<Arc<Conversation>> {
    front.find(headers.get(SESSION)?.to_str().ok()?)
}

/// The name of the conversation that the stateless clients of one principal share. No session id is like it.
fn shared(headers: &HeaderMap) -> String {
    format!("\0{}", headers.get(header::AUTHORIZATION).map(hashed).unwrap_or_default())
}

/// A response that is on its way. Where it is dropped before its end, its client has gone.
struct Open {
    conversation: Arc<Conversation>,
    own: String,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self { conversation, own } = self;
        if !conversation.routes().leave(own) {
            return;
        }
        if conversation.is_stateless {
            // Closing the response is how these take a request back.
            let (session, cancelled) = (conversation.session.clone(), cancelled(own));
            tokio::spawn(async move { session.asked(&cancelled).await });
        } else {
            conversation.session.abandon(own);
        }
    }
}

/// A stream of messages, until there are no more.
fn events(first: Option<String>, from: mpsc::Receiver<String>, open: Option<Open>) -> Response {
    let events = stream::unfold((first, from, open), |(mut first, mut from, open)| async move {
        let text = match first.take() {
            Some(text) => text,
            None => from.recv().await?,
        };
        // A line end is not part of a message: a client joins the lines again.
        let event = Event::default().event("message").data(text.replace(['\r', '\n'], " "));
        Some((Ok::<_, std::convert::Infallible>(event), (None, from, open)))
    });
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE));
    ([("x-accel-buffering", "no")], stream).into_response()
}

/// The status of a response that is sent whole (MCP 2026-07-28, "Streamable HTTP").
fn status_of(text: &str) -> StatusCode {
    let error = Members::look(text).and_then(|members| members.inner("error"));
    let code = error.and_then(|error| error.get("code")).and_then(|code| code.get().parse::<i32>().ok());
    match code {
        Some(-32_022..=-32_020) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

fn refused(why: &'static str) -> Response {
    let error = format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{INVALID_REQUEST},"message":"{why}"}}}}"#);
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], error).into_response()
}

fn hashed(value: &HeaderValue) -> String {
    digest(&SHA256, value.as_bytes()).as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
