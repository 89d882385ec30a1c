//! Answers with a strong `ETag` over their bytes, or 304 (RFC 9110, section 13.1.2).

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use relaytrace_domain::{Digest, Error, Result};
use serde::Serialize;

/// A JSON answer for one person: kept, and asked about again each time.
pub(crate) fn json(asked: &HeaderMap, body: &impl Serialize) -> Result<Response> {
    let body = serde_json::to_vec(body).map_err(Error::internal)?;
    bytes(asked, "application/json", "private, no-cache", body)
}

/// An answer of any kind.
pub(crate) fn bytes(
    asked: &HeaderMap,
    content_type: &'static str,
    cache_control: &'static str,
    body: Vec<u8>,
) -> Result<Response> {
    let tag = format!("\"{}\"", &Digest::of(&body).to_string()["sha256:".len()..][..32]);
    let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).map(str::trim).any(|known| {
        // Compared weakly, as the RFC says.
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type)], body).into_response()
    };
    let tag = HeaderValue::from_str(&tag).map_err(Error::internal)?;
    response.headers_mut().insert(header::ETAG, tag);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    Ok(response)
}
