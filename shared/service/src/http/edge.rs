//! The edge: the frame of every call around its handler.
//!
//! It continues the trace, authenticates, lets the handler run, renders its error or its panic, signs what an agent
//! receives over the exact bytes, and writes the one log line.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use rand::RngExt as _;
use tracing::{error, info};

use super::dialect::Dialects;
use super::known::KnownParameters;
use super::problem;
use super::unread::Unread;
use crate::auth::{BadQuery, Identity, Principal, ResponseKey};
use crate::metrics::Calls;
use crate::state::AppState;
use crate::telemetry::TraceContext;
use crate::vitals::lasting_refusal;
use relaytrace_domain::signing::SignedResponse;
use relaytrace_domain::{Error, Result};

/// The trace that a call belongs to; an extension of every request.
#[derive(Clone, Debug)]
pub struct Trace(pub Arc<TraceContext>);

const NONCE: HeaderName = HeaderName::from_static("relaytrace-nonce");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// What the edge knows besides the call.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) state: AppState,
    pub(super) known: KnownParameters,
    pub(super) dialects: Dialects,
    pub(super) calls: Arc<Calls>,
}

pub(super) async fn edge(State(around): State<Arc<Surroundings>>, request: Request, next: Next) -> Response {
    match around.dialects.that_fails_open(request.method(), request.uri().path()) {
        Some(dialect) => dialect.last_word(answer(&around, request, next)).await,
        None => answer(&around, request, next).await,
    }
}

/// A page elsewhere on the web must not reach a stack of this machine under a name of its own (DNS rebinding).
fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    ["127.0.0.1", "localhost"].contains(&name)
}

async fn answer(around: &Surroundings, mut request: Request, next: Next) -> Response {
    let Surroundings { state, known, dialects, calls } = around;
    if state.page.is_local && !names_this_machine(request.headers()) {
        return (StatusCode::MISDIRECTED_REQUEST, "Host must be 127.0.0.1 or localhost\n").into_response();
    }
    let started = Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let path = uri.path();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let (trace, span) = state.traces.begin(request.headers(), &method, route);
    let trace = Arc::new(trace);
    let identity = if request.headers().contains_key(header::AUTHORIZATION) {
        Identity::from(state.authenticator.authenticate(request.headers()).await)
    } else {
        Identity::Unknown("no token")
    };
    let nonce = request_nonce(request.headers());
    let unread = (!request.body().is_end_stream()).then(|| {
        let (body, unread) = Unread::of(std::mem::take(request.body_mut()));
        *request.body_mut() = body;
        unread
    });
    request.extensions_mut().insert(Trace(trace.clone()));
    request.extensions_mut().insert(identity.clone());

    let agent = identity.response_key().cloned();
    let query = uri.query().filter(|_| is_api(path) && identity.principal().is_some());
    let faults = route.zip(query).map(|(route, query)| known.faults(route, &method, query));
    if let Some(faults) = faults.filter(|faults| !faults.is_empty()) {
        request.extensions_mut().insert(BadQuery(faults));
    }
    let response = match &nonce {
        Err(fault) if agent.is_some() => Error::invalid("/relaytrace-nonce", *fault).into_response(),
        // A HEAD would run the GET and drop its answer: a leased decision, for one.
        _ if method == Method::HEAD && is_called(path) => Error::MethodNotAllowed.into_response(),
        _ => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(problem::after_panic),
    };

    let error = response.extensions().get::<Arc<Error>>().cloned();
    if let Some(Error::Unavailable(source)) = error.as_deref()
        && let Some(refusal) = lasting_refusal(source)
    {
        state.vitals.was_refused(&refusal, state.clock.now());
    }
    if let (Some(unread), Some(_)) = (unread, &error) {
        unread.drop_rest().await;
    }
    let mut response = match &error {
        Some(error) => problem::render(response, error, path, trace.trace_id(), dialects.of(path)),
        None => response,
    };
    if let Some(key) = agent
        && response.status() != StatusCode::UNAUTHORIZED
    {
        let created = state.clock.now().timestamp();
        response = sign(response, &key, &method, nonce.ok().flatten().as_deref(), created).await;
    }
    if is_called(path) {
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    span.end(&response, error.as_deref());
    calls.observe(route, &method, response.status(), started.elapsed());
    log(&method, route, &response, &identity, &trace, started, error.as_deref());
    response
}

/// Where parameters that are not known are refused.
fn is_api(path: &str) -> bool {
    path.starts_with("/v1/") || path.starts_with("/internal/")
}

/// What programs call; the rest is pages and documents.
fn is_called(path: &str) -> bool {
    is_api(path) || path.starts_with("/aap/")
}

/// The request's nonce (contract, "Signed responses"): 16 to 64 characters of `[A-Za-z0-9_-]`, once.
fn request_nonce(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let mut values = headers.get_all(NONCE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("must be sent once");
    }
    let value = value.as_bytes();
    let is_valid =
        (16..=64).contains(&value.len()) && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if !is_valid {
        return Err("must be 16 to 64 characters of A-Z, a-z, 0-9, _ and -");
    }
    Ok(std::str::from_utf8(value).ok().map(str::to_owned))
}

/// Signs a response for an agent. An unsigned response is never sent: the agent would take it for a lost connection
/// anyway.
async fn sign(
    response: Response,
    key: &ResponseKey,
    method: &Method,
    request_nonce: Option<&str>,
    created: i64,
) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let content_type =
        parts.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    let nonce = format!("{:032x}", rand::rng().random::<u128>());
    let signed = SignedResponse {
        status: parts.status.as_u16(),
        content_type: content_type.to_str().unwrap_or_default(),
        body: &body,
        method: method.as_str(),
        request_nonce,
        created,
        nonce: &nonce,
    }
    .sign(key.key_id.as_str(), &key.hmac);
    for (name, value) in [
        (CONTENT_DIGEST, signed.content_digest),
        (SIGNATURE_INPUT, signed.signature_input),
        (SIGNATURE, signed.signature),
    ] {
        match HeaderValue::from_str(&value) {
            Ok(value) => drop(parts.headers.insert(name, value)),
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
    Response::from_parts(parts, Body::from(body))
}

/// One line for each call: never a token, a key, an envelope or a signature.
fn log(
    method: &Method,
    route: Option<&str>,
    response: &Response,
    identity: &Identity,
    trace: &TraceContext,
    started: Instant,
    cause: Option<&Error>,
) {
    let status = response.status().as_u16();
    let route = route.unwrap_or("-");
    let principal = identity.principal().map_or("-", Principal::id);
    let duration_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let trace_id = trace.trace_id();
    let request_id = response.extensions().get::<super::RequestOf>().map(|of| tracing::field::display(of.0));
    let reason = match cause {
        Some(Error::Unauthenticated(reason)) => Some(*reason),
        _ => None,
    };
    match cause {
        Some(Error::Internal(source)) => error!(
            "http.method" = %method, "http.route" = route, "http.status" = status, principal, "request.id" = request_id,
            duration_ms, "trace.id" = trace_id, error = format!("{source:#}"), "request failed"
        ),
        Some(Error::Unavailable(source)) if lasting_refusal(source).is_some() => error!(
            "http.method" = %method, "http.route" = route, "http.status" = status, principal, "request.id" = request_id,
            duration_ms, "trace.id" = trace_id, error = format!("{source:#}"), "request not served: no retry mends this"
        ),
        Some(Error::Unavailable(source)) => tracing::warn!(
            "http.method" = %method, "http.route" = route, "http.status" = status, principal, "request.id" = request_id,
            duration_ms, "trace.id" = trace_id, error = format!("{source:#}"), "request not served"
        ),
        _ => info!(
            "http.method" = %method, "http.route" = route, "http.status" = status, principal, "request.id" = request_id,
            duration_ms, "trace.id" = trace_id, reason, "request"
        ),
    }
}
