//! Paths, queries and cursors.

use std::convert::Infallible;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use http::HeaderMap;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use relaytrace_domain::{Error, Result};
use relaytrace_domain::{Faults, Json};

/// Path parameters. A parameter that does not parse is answered `not-found`.
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

/// A whole number of at least `least`; a greater one than `most` counts as `most`.
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

/// How long a caller would wait, in seconds, by `Prefer: wait=n` (RFC 7240, section 4.3): the parameter `wait_seconds` in
/// other words, which wins where both are given. A preference that cannot be read is none.
///
/// A handler that waits takes this and not all headers: it would hold them, and the buffer that they were read into.
#[derive(Clone, Debug, Default)]
pub struct PreferredWait(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for PreferredWait {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(preferred_wait(&parts.headers)))
    }
}

fn preferred_wait(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|preference| {
        // What comes after a semicolon are parameters, of which `wait` has none.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        (is_wait && !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit())).then(|| value.to_owned())
    })
}

/// The value of a parameter that is given once. An empty one is a fault, not absence.
pub fn parse_one<T: FromStr<Err: std::fmt::Display>>(faults: &mut Faults, name: &str, text: Option<&str>) -> Option<T> {
    match text?.parse() {
        Ok(value) => Some(value),
        Err(rule) => {
            faults.add_at(name, format!("{rule}"));
            None
        }
    }
}

/// Values of a list parameter, given repeatedly or separated by commas. An empty one among them is a fault.
pub fn parse_list<T: FromStr<Err: std::fmt::Display>>(faults: &mut Faults, name: &str, texts: &[String]) -> Vec<T> {
    let parts = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    parts.filter_map(|part| parse_one(faults, name, Some(part))).collect()
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
        // Read as a body is: a text in it goes into a statement, and Postgres has none with U+0000.
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| Json::parse(bytes).is_ok());
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

impl<T: Serialize> Page<T> {
    /// The page of the rows of a query for `limit` and one more; `cursor` gives the place of the last item. A page is
    /// shorter where its items are long.
    pub fn of<R: Into<T>, C: Cursor>(mut found: Vec<R>, limit: i64, cursor: impl Fn(&R) -> C) -> Self {
        let limit = usize::try_from(limit).unwrap_or_default();
        let mut has_more = found.len() > limit;
        found.truncate(limit);
        let (mut items, mut places) = (Vec::with_capacity(found.len()), Vec::with_capacity(found.len()));
        for row in found {
            places.push(cursor(&row));
            items.push(row.into());
        }
        has_more |= keep_short(&mut items);
        let next_cursor = places.get(items.len().wrapping_sub(1)).filter(|_| has_more).map(Cursor::encode);
        Self { items, next_cursor }
    }
}

/// Keeps so many of the first items that an answer of them stays under 1 MB (contract, "Conventions"): one at the least.
/// Whether any was left out.
pub fn keep_short<T: Serialize>(items: &mut Vec<T>) -> bool {
    const MOST_BYTES: usize = 900_000;
    let mut bytes = 0;
    let too_long = items.iter().position(|item| {
        bytes += serde_json::to_vec(item).map_or(0, |text| text.len()) + 1;
        bytes > MOST_BYTES
    });
    let kept = too_long.map_or(items.len(), |at| at.max(1));
    let is_cut = kept < items.len();
    items.truncate(kept);
    is_cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_wait_is_found_among_preferences() {
        let preferred = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", value.parse().unwrap());
            }
            preferred_wait(&headers)
        };
        assert_eq!(preferred(&["wait=20"]).as_deref(), Some("20"));
        assert_eq!(preferred(&["respond-async, Wait=5"]).as_deref(), Some("5"));
        assert_eq!(preferred(&["respond-async", "wait = \"7\"; foo=bar"]).as_deref(), Some("7"));
        for none in ["wait", "wait=", "wait=-1", "wait=soon", "waiting=3"] {
            assert_eq!(preferred(&[none]), None, "{none}");
        }
        assert_eq!(preferred(&[]), None);
    }

    #[test]
    fn a_page_of_long_items_is_shorter_and_goes_on_after_its_last() {
        #[derive(Serialize, Deserialize)]
        struct Place(usize);
        impl Cursor for Place {}
        let page = |length: usize| Page::<String>::of(vec!["x".repeat(length); 4], 3, |row| Place(row.len()));
        assert_eq!((page(10).items.len(), page(400_000).items.len(), page(2_000_000).items.len()), (3, 2, 1));
        assert_eq!(page(400_000).next_cursor, Some(Place(400_000).encode()));
        let short = Page::<String>::of(vec!["x".to_owned()], 3, |row| Place(row.len()));
        assert_eq!((short.items.len(), short.next_cursor), (1, None));
    }

    #[test]
    fn an_empty_value_is_a_fault_wherever_it_stands() {
        use relaytrace_domain::{AgentId, Priority};
        let mut faults = Faults::default();
        assert_eq!(parse_list::<Priority>(&mut faults, "priority", &["P1,P2".into(), "P3".into()]).len(), 3);
        assert!(faults.is_empty());
        parse_list::<Priority>(&mut faults, "priority", &["P1,".into(), String::new()]);
        assert_eq!(faults.listed().len(), 2);
        assert_eq!(parse_one::<AgentId>(&mut faults, "agent_id", Some("a,b")), None);
        assert_eq!(parse_one::<AgentId>(&mut faults, "agent_id", Some("")), None);
        assert_eq!(faults.listed().len(), 4);
    }
}
