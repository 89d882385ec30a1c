//! Clients by streamable HTTP, on an address of this machine.
//!
//! Up to revision 2025-11-25 a client begins a session with `initialize`, and has a server of its own. Stateless clients
//! (2026-07-28) of one principal, which the header `Authorization` tells apart, share one.

mod admission;
mod response;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::{Host, Url};
use uuid::Uuid;

use self::admission::{NO_SESSION, acted_on, shown};
use self::response::{Open, answered, events};
use crate::Way;
use crate::caller;
use crate::child::{CHANNEL, Server};
use crate::guard::Guard;
use crate::headers::SESSION;
use crate::heads::Heads;
use crate::lines::LONGEST;
use crate::message::{self, INVALID_REQUEST, Kind, Members, kind as kind_of, unbatched};
use crate::routes::Routes;
use crate::session::Session;

/// Most sessions; the one that was idle longest makes room.
const MOST_SESSIONS: usize = 256;
/// How long a session may be idle: no response of it is open, and nothing is sent.
const MOST_IDLE: Duration = Duration::from_mins(15);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long clients may take to read what is left once this process is told to stop.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);
/// Messages that wait for the reader of a response. One more ends it.
const STREAM: usize = 1_024;

/// Serves clients until `stop`.
pub async fn serve(guard: Arc<Guard>, way: Way, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let (watches, sessions) = (TaskTracker::new(), Mutex::default());
    let front = Arc::new(Front { guard, way, sessions, stop: stop.clone(), watches });
    let routes = post(posted).get(listened).delete(closed).layer(DefaultBodyLimit::max(LONGEST));
    // A client looks there for who gives authorization: that is not here, and the server's own answer says where.
    let nothing = any(|| async { StatusCode::NOT_FOUND });
    let app = Router::new().route("/.well-known/{*path}", nothing);
    let app = app.fallback_service(routes.with_state(front.clone())).layer(from_fn(only_from_here));
    let serving = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future();
    let ending = async {
        stop.cancelled().await;
        front.ended().await;
        // A client that does not read cannot keep a process that was told to stop.
        sleep(FLUSH_DEADLINE).await;
    };
    tokio::select! {
        served = serving => {
            served?;
            front.ended().await;
        }
        () = front.sweep() => {}
        () = ending => {}
    }
    Ok(())
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
    stop: CancellationToken,
    /// Each ends after its server.
    watches: TaskTracker,
}

/// One client and its server; or the stateless clients of one principal and theirs.
#[derive(Debug)]
struct Conversation {
    session: Arc<Session>,
    routes: Mutex<Routes>,
    /// How the server takes each request, where it is at an address.
    heads: Option<Arc<Heads>>,
    is_stateless: bool,
    /// What its client showed for authorization when it began.
    shown: Option<HeaderValue>,
    /// The server judges what clients show for authorization.
    is_judged: bool,
    used_at: Mutex<Instant>,
    ending: CancellationToken,
}

impl Front {
    /// The conversation of this session.
    fn find(&self, id: &str) -> Option<Arc<Conversation>> {
        let found = self.sessions().get(id).cloned()?;
        found.touch();
        Some(found)
    }

    /// A new conversation, with a server of its own.
    fn begin(
        self: &Arc<Self>,
        id: &str,
        headers: &HeaderMap,
        is_stateless: bool,
    ) -> Result<Arc<Conversation>, (StatusCode, &'static str)> {
        if !self.has_room() {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "too many sessions are in use"));
        }
        let (to_client, mut told) = mpsc::channel(CHANNEL);
        let (from_server, mut said) = mpsc::channel::<String>(CHANNEL);
        let shown = shown(headers);
        let server = self.way.start_for(shown.as_ref(), from_server).map_err(|error| {
            tracing::error!("the server cannot be started: {error}");
            (StatusCode::BAD_GATEWAY, "the server cannot be started")
        })?;
        let principal = principal(headers);
        let session = Session::new(self.guard.clone(), principal, to_client, server.to_server.clone());
        let conversation = Arc::new(Conversation {
            session: session.clone(),
            routes: Mutex::new(Routes::new(is_stateless)),
            heads: self.way.is_remote().then(|| server.heads.clone()),
            is_stateless,
            shown,
            is_judged: self.way.judges(),
            used_at: Mutex::new(Instant::now()),
            ending: self.stop.child_token(),
        });
        let passing = tokio::spawn(async move {
            while let Some(text) = said.recv().await {
                session.said(&text).await;
            }
        });
        let routed = conversation.clone();
        let delivering = tokio::spawn(async move {
            while let Some(text) = told.recv().await {
                routed.routes().deliver(text);
            }
        });
        // Another request of its client may have begun it meanwhile.
        let known = self.sessions().entry(id.to_owned()).or_insert_with(|| conversation.clone()).clone();
        if !Arc::ptr_eq(&known, &conversation) {
            conversation.ending.cancel();
        }
        let front = self.clone();
        let id = id.to_owned();
        self.watches.spawn(async move {
            front.watch(id, &conversation, server, passing).await;
            delivering.abort();
        });
        Ok(known)
    }

    /// Ends a conversation with its server, or when it is told to.
    async fn watch(&self, id: String, conversation: &Arc<Conversation>, mut server: Server, passing: JoinHandle<()>) {
        let ended = tokio::select! {
            ended = &mut server.ended => Some(ended),
            () = conversation.ending.cancelled() => None,
        };
        {
            let mut sessions = self.sessions();
            if sessions.get(&id).is_some_and(|known| Arc::ptr_eq(known, conversation)) {
                sessions.remove(&id);
            }
        }
        conversation.session.hang_up();
        match ended {
            Some(how) => tracing::warn!("the server has ended: {}", how.unwrap_or_else(|error| error.to_string())),
            None => drop(server.end().await),
        }
        // What it said last reaches its clients.
        let last = async {
            drop(passing.await);
            conversation.session.flushed().await;
        };
        drop(timeout(FLUSH_DEADLINE, last).await);
        conversation.session.end().await;
        // Streams that are still open end.
        conversation.routes().close();
    }

    /// Whether there may be one more session. The one that was idle longest makes room.
    fn has_room(&self) -> bool {
        let mut sessions = self.sessions();
        if sessions.len() < MOST_SESSIONS {
            return true;
        }
        let idle = sessions.iter().filter(|(_, known)| known.is_idle());
        let oldest = idle.min_by_key(|(_, known)| known.used_at()).map(|(id, _)| id.clone());
        let oldest = oldest.and_then(|id| sessions.remove(&id));
        oldest.inspect(|oldest| oldest.ending.cancel()).is_some()
    }

    /// Ends sessions whose clients went without a word.
    async fn sweep(&self) {
        loop {
            sleep(SWEEP_EVERY).await;
            let is_over = |known: &Conversation| known.is_idle() && known.used_at().elapsed() > MOST_IDLE;
            for (_, over) in self.sessions().extract_if(|_, known| is_over(known)) {
                over.ending.cancel();
            }
        }
    }

    /// Every server has ended.
    async fn ended(&self) {
        self.watches.close();
        self.watches.wait().await;
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Conversation>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation {
    fn touch(&self) {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn used_at(&self) -> Instant {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no response is open, and no approved call runs.
    fn is_idle(&self) -> bool {
        self.routes().is_idle() && !self.session.is_busy()
    }
}

/// A message of a client.
async fn posted(State(front): State<Arc<Front>>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(text) = String::from_utf8(body.into()) else { return refused("the body is no UTF-8") };
    let mut parts = unbatched(&text);
    let (Some(text), true) = (parts.pop(), parts.is_empty()) else { return refused("batches are not served") };
    let Ok(members) = Members::of_client(&text) else { return refused("the body is no JSON-RPC message") };
    let kind = kind_of(&members);
    let meta = members.inner("params").and_then(|params| params.inner("_meta"));
    let is_stateless = meta.as_ref().is_some_and(caller::is_stateless);
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
            Err(refused) => return refused.into_response(),
        },
        None if named.is_some() => return (StatusCode::NOT_FOUND, NO_SESSION).into_response(),
        None => return refused("a session begins with initialize"),
    };
    if let Some(refusal) = conversation.refusal(&headers, acted_on(&kind).map(|id| (id, meta.as_ref()))).await {
        return refusal;
    }
    let shown = shown(&headers);
    let Kind::Request { id: of_client, .. } = kind else {
        let translated = conversation.routes().translated(text);
        if let Some(text) = translated {
            conversation.session.asked(&text, shown.as_ref()).await;
        }
        return StatusCode::ACCEPTED.into_response();
    };
    let (to, from) = mpsc::channel(STREAM);
    let (text, own) = conversation.routes().enter(&members, &of_client, to);
    let head = conversation.heads.as_ref().map(|heads| heads.expect(&own));
    let open = Open { conversation: conversation.clone(), own };
    conversation.session.asked(&text, shown.as_ref()).await;
    let mut response = answered(open, from, head).await;
    if !is_first {
        return response;
    }
    match HeaderValue::from_str(&id) {
        Ok(id) if response.status().is_success() => drop(response.headers_mut().insert(SESSION, id)),
        // What has not begun has no session.
        _ => conversation.ending.cancel(),
    }
    response
}

/// The stream of what the server says unasked.
async fn listened(State(front): State<Arc<Front>>, headers: HeaderMap) -> Response {
    let Some(conversation) = named(&front, &headers) else {
        return (StatusCode::METHOD_NOT_ALLOWED, NO_SESSION).into_response();
    };
    if let Some(refusal) = conversation.refusal(&headers, Some(("null", None))).await {
        return refusal;
    }
    let (to, from) = mpsc::channel(STREAM);
    conversation.routes().listen(to);
    events(None, from, None)
}

/// The end of a session.
async fn closed(State(front): State<Arc<Front>>, headers: HeaderMap) -> Response {
    let Some(conversation) = named(&front, &headers) else {
        return (StatusCode::NOT_FOUND, NO_SESSION).into_response();
    };
    if let Some(refusal) = conversation.refusal(&headers, Some(("null", None))).await {
        return refusal;
    }
    conversation.ending.cancel();
    StatusCode::OK.into_response()
}

fn named(front: &Front, headers: &HeaderMap) -> Option<Arc<Conversation>> {
    front.find(headers.get(SESSION)?.to_str().ok()?)
}

/// The name of the conversation that the stateless clients of one principal share. No session id is like it.
fn shared(headers: &HeaderMap) -> String {
    format!("\0{}", principal(headers))
}

fn refused(why: &'static str) -> Response {
    let error = message::error("null", INVALID_REQUEST, why);
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], error).into_response()
}

/// Whose calls these are, by the header `Authorization`; without one, nobody's.
fn principal(headers: &HeaderMap) -> String {
    let shown = headers.get(header::AUTHORIZATION);
    shown.map(|shown| hex::encode(digest(&SHA256, shown.as_bytes()))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use futures_util::future::join_all;
    use nix::errno::Errno;
    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    use super::*;

    #[tokio::test]
    async fn it_ends_after_every_server() {
        let script = r#"read line; printf '{"id":"c-1","result":{"pid":%s}}\n' $$; exec cat >/dev/null"#;
        let way = Way::Command(["sh", "-c", script].map(OsString::from).to_vec());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(crate::session::tests::guard(), way, listener, stop.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let first = http.post(url).body(r#"{"id":1,"method":"initialize","params":{}}"#).send().await.unwrap();
        let first = first.text().await.unwrap();
        let members = Members::look(first.trim().trim_start_matches("event: message\ndata: ")).unwrap();
        let pid = members.inner("result").unwrap().get("pid").unwrap().get().parse().unwrap();
        assert_eq!(kill(Pid::from_raw(pid), None), Ok(()));
        stop.cancel();
        serving.await.unwrap().unwrap();
        assert_eq!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH));
    }
    /// Answers `initialize`, and nothing else.
    const SILENT: &str = r#"read line; printf '{"id":"c-1","result":{}}\n'; while read line; do :; done"#;

    async fn begun(front: &Arc<Front>) -> Response {
        let body = Bytes::from(r#"{"id":1,"method":"initialize","params":{}}"#);
        posted(State(front.clone()), HeaderMap::new(), body).await
    }

    async fn asked(front: &Arc<Front>, session: &HeaderValue) -> Response {
        let headers = HeaderMap::from_iter([(SESSION, session.clone())]);
        posted(State(front.clone()), headers, Bytes::from(r#"{"id":2,"method":"ping"}"#)).await
    }

    #[tokio::test]
    async fn one_session_too_many_ends_the_one_that_was_idle_longest_and_none_that_is_in_use() {
        let way = Way::Command(["sh", "-c", SILENT].map(OsString::from).to_vec());
        let stop = CancellationToken::new();
        let front = Front {
            guard: crate::session::tests::guard(),
            way,
            sessions: Mutex::default(),
            stop: stop.clone(),
            watches: TaskTracker::new(),
        };
        let front = Arc::new(front);
        let mut sessions = vec![];
        for _ in 0..MOST_SESSIONS {
            sessions.push(begun(&front).await.headers()[SESSION].clone());
        }
        // The first one is used again: it is not the one that was idle longest.
        let mut open = vec![asked(&front, &sessions[0]).await];
        let last = begun(&front).await;
        assert_eq!((last.status(), front.sessions().len()), (StatusCode::OK, MOST_SESSIONS));
        assert_eq!(asked(&front, &sessions[1]).await.status(), StatusCode::NOT_FOUND);
        sessions.remove(1);
        sessions.push(last.headers()[SESSION].clone());
        open.extend(join_all(sessions[1..].iter().map(|session| asked(&front, session))).await);
        assert!(open.iter().all(|response| response.status() == StatusCode::OK));
        assert_eq!(begun(&front).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        // A response that is closed leaves its session idle.
        drop(open.pop());
        assert_eq!(begun(&front).await.status(), StatusCode::OK);
        assert_eq!(asked(&front, &sessions[MOST_SESSIONS - 1]).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(front.sessions().len(), MOST_SESSIONS);
        stop.cancel();
        front.ended().await;
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused_and_its_session_goes_on() {
        let way = Way::Command(["cat"].map(OsString::from).to_vec());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(crate::session::tests::guard(), way, listener, stop.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let post = |body: Vec<u8>| http.post(&url).body(body).send();
        let refused = post(vec![b'x'; LONGEST + 1]).await.unwrap();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        // The longest body is read, and is no message.
        assert_eq!(post(vec![b'x'; LONGEST]).await.unwrap().status(), StatusCode::BAD_REQUEST);
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
