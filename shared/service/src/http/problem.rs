//! Problem documents (RFC 9457): the only place where errors become HTTP.

use std::any::Any;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::dialect::{Dialect, InProblems, Told};
use relaytrace_domain::Error;
use relaytrace_domain::{Decision, Fault};

/// The body of every error (contract, "Errors").
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem<'a> {
    /// `urn:relaytrace:problem:<code>`
    #[serde(rename = "type")]
    uri: String,
    /// The code in words.
    title: &'static str,
    /// HTTP status.
    status: u16,
    /// The fault of this call.
    detail: String,
    /// Path of the call.
    instance: &'a str,
    /// What programs compare.
    code: &'static str,
    /// The same call may succeed later.
    retryable: bool,
    /// When, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// The faults of the body, the parameters or the headers, the first 100; `detail` says how many more there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [Fault]>,
    /// The decision that stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Decision>,
    /// Finds the call in the logs.
    trace_id: &'a str,
}

/// The response of a handler that panicked. The message goes to the log, not to the caller.
#[expect(clippy::needless_pass_by_value, reason = "as `catch_unwind` gives it")]
pub(super) fn after_panic(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::internal(anyhow::anyhow!("a handler panicked: {message}")).into_response()
}

/// Writes what a response that carries an error tells: a problem document, or as its route's dialect has it.
pub(super) fn render(
    response: Response,
    error: &Error,
    path: &str,
    trace_id: &str,
    dialect: Option<&Dialect>,
) -> Response {
    let after = pause(error);
    let dialect = dialect.filter(|_| response.extensions().get::<InProblems>().is_none());
    let told = match dialect.and_then(|dialect| (dialect.tell)(error, trace_id)) {
        Some(told) => told,
        None => problem(error, path, trace_id),
    };
    // What the router said with it stays: `Allow` of a 405.
    let (mut parts, _) = response.into_parts();
    parts.status = told.status;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(told.content_type));
    parts.headers.extend(told.headers);
    if told.status == StatusCode::UNAUTHORIZED {
        parts.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(after) = after {
        parts.headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    Response::from_parts(parts, Body::from(told.body))
}

impl<'a> Problem<'a> {
    /// What an error of a call of this path tells.
    #[must_use]
    pub fn of(error: &'a Error, path: &'a str, trace_id: &'a str) -> Self {
        let answer = error.answer();
        let after = pause(error);
        Self {
            uri: format!("urn:relaytrace:problem:{}", answer.code),
            title: answer.title,
            status: answer.status,
            detail: error.to_string(),
            instance: path,
            code: answer.code,
            retryable: after.is_some(),
            retry_after_ms: after.and_then(|after| after.as_millis().try_into().ok()),
            errors: if let Error::Invalid(faults) = error { Some(faults.listed()) } else { None },
            decision: if let Error::AlreadyDecided(decision) = error { Some(decision) } else { None },
            trace_id,
        }
    }
}

/// How long to wait before the same call; `None`: it would fail again.
fn pause(error: &Error) -> Option<Duration> {
    error.failure().retry().map(|_| error.failure().pause())
}

/// The problem document of an error.
fn problem(error: &Error, path: &str, trace_id: &str) -> Told {
    let problem = Problem::of(error, path, trace_id);
    Told {
        status: StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        content_type: "application/problem+json",
        headers: HeaderMap::new(),
        body: serde_json::to_vec(&problem).unwrap_or_default(),
    }
}
