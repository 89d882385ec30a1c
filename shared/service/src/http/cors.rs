//! Which pages on other origins may read answers (the Fetch standard, "CORS protocol").
//!
//! The operator page may be served from elsewhere; it needs the operators' routes, those of rules, and the report. Tokens travel in a
//! header that the page sets itself, never in a cookie, so credentials stay off.

use std::time::Duration;

use http::{HeaderValue, Method, header, request};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// The operators' routes, and of the administrators' those that the page calls.
const PATHS: [&str; 3] = ["/v1/hitl/", "/v1/admin/rules", "/v1/admin/reports/"];
/// How long a browser may remember the answer to its question before the request; no browser takes longer.
const MAX_AGE: Duration = Duration::from_hours(2);

/// Admits pages of these origins; `None` where there are none.
pub(super) fn layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    let admitted = origins.to_vec();
    let is_ours = move |origin: &HeaderValue, request: &request::Parts| {
        admitted.contains(origin) && PATHS.iter().any(|path| request.uri.path().starts_with(path))
    };
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(is_ours))
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH, header::IF_NONE_MATCH])
            .expose_headers([header::ETAG, header::DATE, header::RETRY_AFTER])
            .max_age(MAX_AGE)
    })
}
