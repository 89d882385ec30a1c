//! JSON bodies, read under a limit and judged by the contract's rules.

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use deserr::Deserr;
use futures_util::StreamExt as _;
use http::{HeaderMap, header};

use crate::state::AppState;
use relaytrace_domain::{Error, Result};
use relaytrace_domain::{Faults, Json, from_object};

/// Longest body of any route: 512 KiB (contract, "Limits"). A deployment may lower it.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// The bytes of a body that is declared as JSON.
#[derive(Clone, Debug)]
pub struct JsonBytes(pub Bytes);

/// A typed body.
#[derive(Clone, Debug)]
pub struct JsonBody<T>(pub T);

impl FromRequest<AppState> for JsonBytes {
    type Rejection = Error;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let limit = state.max_body_bytes;
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Error::UnsupportedMediaType);
        }
        let mut stream = body.into_data_stream();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| Error::MalformedJson("it did not arrive whole, or not in time".into()))?;
            if bytes.len() + chunk.len() > limit {
                return Err(Error::PayloadTooLarge { limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self(bytes.freeze()))
    }
}

impl<T: Deserr<Faults>> FromRequest<AppState> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let JsonBytes(bytes) = JsonBytes::from_request(request, state).await?;
        Ok(Self(from_object(Json::parse(&bytes)?)?))
    }
}

/// `application/json`, with no charset but UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let mut parts = value.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, charset)) if name.trim().eq_ignore_ascii_case("charset") => {
                charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}
