//! Paths, queries and cursors.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use relaytrace_domain::Faults;
use relaytrace_domain::{Error, Result};

/// Path parameters. One that cannot name anything is `not-found`.
#[derive(Clone, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(value)| Self(value)).map_err(|_| Error::NotFound)
    }
}

/// Query parameters, a repeated one as a list.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let query = axum_extra::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|axum_extra::extract::Query(value)| Self(value))
            .map_err(|_| Error::invalid("", "the query cannot be read"))
    }
}

/// A whole number of at least `least`; what is above `most` counts as `most`.
pub fn clamped(faults: &mut Faults, name: &str, text: Option<&str>, default: u64, least: u64, most: u64) -> u64 {
    let Some(text) = text else { return default };
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // Digits that do not fit are above any range.
    let value = if is_digits { Some(text.parse().unwrap_or(u64::MAX)) } else { None };
    match value {
        Some(value) if value >= least => value.min(most),
        _ => {
            faults.add(format!("/{name}"), format!("must be a whole number of at least {least}"));
            default
        }
    }
}

/// Values of a list parameter, given repeatedly or separated by commas.
pub fn parse_list<T: FromStr<Err: std::fmt::Display>>(faults: &mut Faults, name: &str, texts: &[String]) -> Vec<T> {
    let parts = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|part| !part.is_empty());
    parts
        .filter_map(|part| match part.parse() {
            Ok(value) => Some(value),
            Err(rule) => {
                faults.add(format!("/{name}"), format!("{rule}"));
                None
            }
        })
        .collect()
}

/// An opaque position in a listing.
pub trait Cursor: Serialize + for<'de> Deserialize<'de> {
    /// The text that a client gives back.
    fn encode(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// What a client gave back.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not one of ours.
    fn decode(text: &str) -> Result<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| Error::invalid("/cursor", "is not a cursor of this listing"))
    }
}

/// One page of a listing.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Gives the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The page of what was found when `limit` and one more were asked for; `cursor` says where the last item is.
    pub fn of<R: Into<T>, C: Cursor>(mut found: Vec<R>, limit: i64, cursor: impl FnOnce(&R) -> C) -> Self {
        let limit = usize::try_from(limit).unwrap_or_default();
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| has_more).map(|last| cursor(last).encode());
        Self { items: found.into_iter().map(R::into).collect(), next_cursor }
    }
}
