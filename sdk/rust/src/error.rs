//! Errors of the client.

use serde::Deserialize;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something given to the client cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The service refused the call, signed; the same call would be refused again.
    #[error("refused: {0}")]
    Refused(Box<Problem>),
    /// The service does not know this key, or not any more. Its answer cannot be signed, so it is no outcome.
    #[error("the service does not accept this agent's token ({0})")]
    NotAuthenticated(String),
    /// No answer that counts came in time: whether the call had an effect is not known, and it may be sent again.
    #[error("no answer that counts after {tries} tries; the last: {last}")]
    GaveUp {
        /// How often it was sent.
        tries: usize,
        /// The result of the last try.
        last: String,
    },
    /// The service answered for another action than the one that was asked about.
    #[error("the service answered for the action {answered}, asked was {asked}")]
    OtherAction {
        /// Digest of the action asked about.
        asked: String,
        /// Digest in the answer.
        answered: String,
    },
    /// The two clocks differ by more than the 30 s that signatures and tokens allow.
    #[error("this machine's clock is {}, more than the 30 s that are allowed: set it", off(*.ahead_seconds))]
    Clock {
        /// How far this machine's clock is ahead of the service's; negative if it is behind.
        ahead_seconds: i64,
    },
    /// Nobody decided in time, and the service's sweep did not either: the request is pending after its deadline.
    #[error("{request_id} is still pending after its deadline, {respond_by}: the service's sweep does not run")]
    Undecided {
        /// The request.
        request_id: uuid::Uuid,
        /// Its deadline.
        respond_by: chrono::DateTime<chrono::Utc>,
    },
    /// The decision was read, not delivered: `retry` and `failed` need a delivery.
    #[error("this decision was not delivered by a poll")]
    NotDelivered,
    /// A receipt does not verify.
    #[error("the receipt does not verify: {0}")]
    Receipt(String),
    /// A verified answer does not follow the contract.
    #[error("an answer is not as the contract says: {0}")]
    Contract(String),
}

/// A difference of clocks, in words.
pub(crate) fn off(ahead_seconds: i64) -> String {
    let side = if ahead_seconds < 0 { "behind" } else { "ahead of" };
    format!("{} s {side} the service's", ahead_seconds.unsigned_abs())
}

/// A problem document (RFC 9457) of the service.
#[derive(Clone, Debug, Deserialize, thiserror::Error)]
#[error("{status} {code}: {detail}")]
pub struct Problem {
    /// The code that programs compare.
    pub code: String,
    /// HTTP status.
    pub status: u16,
    /// The fault of this call, in words.
    pub detail: String,
    /// Path of the call; compared with the path that was called.
    pub instance: String,
    /// The same call may succeed later.
    pub retryable: bool,
    /// When, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// All faults of the request.
    #[serde(default)]
    pub errors: Vec<Fault>,
    /// The decision that stands.
    pub decision: Option<serde_json::Value>,
    /// Finds the call in the service's logs.
    pub trace_id: String,
}

/// A fault of the request.
#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    /// Where (RFC 6901).
    pub pointer: String,
    /// The fault, in words.
    pub detail: String,
}
