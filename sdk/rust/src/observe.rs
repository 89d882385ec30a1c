//! The result of each try of a call, for metrics and records.

use std::fmt;

use reqwest::header::HeaderMap;

use crate::signature::Unverified;

/// Told of every try of every call of a [`crate::Client`] that it was given to ([`crate::Client::observed`]).
pub trait Observer: fmt::Debug + Send + Sync {
    /// A try has ended.
    fn tried(&self, tried: &Try<'_>);
}

/// One try of a call.
#[derive(Clone, Copy, Debug)]
pub struct Try<'a> {
    /// The request's method.
    pub method: &'a str,
    /// Its path and query.
    pub path: &'a str,
    /// Its nonce.
    pub nonce: &'a str,
    /// The response, or the reason for none.
    pub response: Result<Response<'a>, &'a str>,
}

/// A response as it came.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The exact body.
    pub body: &'a [u8],
    /// Whether it is the service's own; if not, the client takes it for a lost connection.
    pub verified: Result<(), &'a Unverified>,
}
