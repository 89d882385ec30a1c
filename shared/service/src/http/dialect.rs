//! Dialects: how failures are told where the protocol is not ours (contract, "Bridges").
//!
//! Errors become HTTP in `problem` only. A route of another protocol gives it the shape that its callers read; whatever
//! refuses the call, the handler, an extractor, the router or the edge, is told in it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use relaytrace_domain::Error;

/// What a caller is told of a failure.
#[derive(Clone, Debug)]
pub struct Told {
    /// HTTP status.
    pub status: StatusCode,
    /// Media type of the body.
    pub content_type: &'static str,
    /// Headers beside it.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// How the routes below one path tell failures.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// What their paths begin with.
    pub prefix: &'static str,
    /// What is told of an error; given the call's trace id. `None`: a problem document.
    pub tell: fn(&Error, &str) -> Option<Told>,
    /// Whether callers take every answer but 200 for "go on": then none of these calls ends with another one.
    pub fails_open: bool,
}

/// Put into the extensions of a response whose error is told as a problem document all the same.
#[derive(Clone, Copy, Debug)]
pub struct InProblems;

/// Those of a router.
#[derive(Debug, Default)]
pub(super) struct Dialects(pub(super) Vec<Dialect>);

impl Dialects {
    /// That of this path.
    pub(super) fn of(&self, path: &str) -> Option<&Dialect> {
        self.0.iter().find(|dialect| path.starts_with(dialect.prefix))
    }
}

/// The outermost layer: where callers take a failure for "go on", what the edge itself could not answer is a refusal too.
pub(super) async fn last_word(State(dialects): State<Arc<Dialects>>, request: Request, next: Next) -> Response {
    let dialect = dialects.of(request.uri().path()).filter(|dialect| dialect.fails_open);
    let Some(dialect) = dialect.filter(|_| request.method() == Method::POST) else { return next.run(request).await };
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) if response.status() == StatusCode::OK => response,
        Ok(response) if response.extensions().get::<InProblems>().is_some() => response,
        Ok(response) => {
            tracing::error!(http.status = response.status().as_u16(), "an answer that would read as a yes is replaced");
            refusal(dialect)
        }
        Err(_) => {
            tracing::error!("a call ended in a panic outside of its handler");
            refusal(dialect)
        }
    }
}

fn refusal(dialect: &Dialect) -> Response {
    let error = Error::internal(anyhow::anyhow!("the call could not be answered"));
    let mut response = Response::new(Body::empty());
    let Some(told) = (dialect.tell)(&error, "") else { return response };
    *response.status_mut() = told.status;
    *response.headers_mut() = told.headers;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(told.content_type));
    *response.body_mut() = Body::from(told.body);
    response
}
