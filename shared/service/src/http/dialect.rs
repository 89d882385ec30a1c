//! Dialects: how failures are told where the protocol is not ours (contract, "Bridges").
//!
//! Errors become HTTP in `problem` only. A route of another protocol gives it the shape that its callers read; whatever
//! refuses the call, the handler, an extractor, the router or the edge, is told in it.

use std::panic::AssertUnwindSafe;

use axum::body::Body;
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

    /// That of a call whose caller would take a failure for "go on".
    pub(super) fn that_fails_open(&self, method: &Method, path: &str) -> Option<&Dialect> {
        self.of(path).filter(|dialect| dialect.fails_open && method == Method::POST)
    }
}

impl Dialect {
    /// The edge's own answer, in place of which callers who take a failure for "go on" get a refusal.
    pub(super) async fn last_word(&self, answer: impl Future<Output = Response>) -> Response {
        match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(response) if response.status() == StatusCode::OK => response,
            Ok(response) if response.extensions().get::<InProblems>().is_some() => response,
            Ok(response) => {
                let status = response.status().as_u16();
                tracing::error!(http.status = status, "an answer that would read as a yes is replaced");
                refusal(self)
            }
            Err(_) => {
                tracing::error!("a call ended in a panic outside of its handler");
                refusal(self)
            }
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

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    const DENIAL: Dialect = Dialect { prefix: "/hook", tell, fails_open: true };

    #[expect(clippy::unnecessary_wraps, reason = "a dialect's signature")]
    fn tell(error: &Error, _: &str) -> Option<Told> {
        let body = error.answer().code.into();
        Some(Told { status: StatusCode::OK, content_type: "text/plain", headers: HeaderMap::new(), body })
    }

    /// What a caller gets where the edge ends so.
    async fn answer(method: Method, path: &str, edge: impl Future<Output = Response>) -> (StatusCode, String) {
        let dialects = Dialects(vec![DENIAL]);
        let response = match dialects.that_fails_open(&method, path) {
            Some(dialect) => dialect.last_word(edge).await,
            None => edge.await,
        };
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1_000).await.expect("a body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn whatever_is_not_200_becomes_a_denial_where_callers_would_go_on() {
        let refused = async || StatusCode::SERVICE_UNAVAILABLE.into_response();
        assert_eq!(answer(Method::POST, "/hook", refused()).await, (StatusCode::OK, "internal".into()));
        assert_eq!(answer(Method::GET, "/hook", refused()).await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer(Method::POST, "/other", refused()).await.0, StatusCode::SERVICE_UNAVAILABLE);
        let panics = async { panic!("outside of the handler's own net") };
        assert_eq!(answer(Method::POST, "/hook", panics).await, (StatusCode::OK, "internal".into()));
        let good = async { "as it was".into_response() };
        assert_eq!(answer(Method::POST, "/hook", good).await, (StatusCode::OK, "as it was".into()));
        let told = async { (StatusCode::CONFLICT, axum::Extension(InProblems)).into_response() };
        assert_eq!(answer(Method::POST, "/hook", told).await.0, StatusCode::CONFLICT);
    }
}
