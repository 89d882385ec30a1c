//! Errors of the client.

use serde::Deserialize;
use uuid::Uuid;

use crate::not_approved::NotApproved;

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
    #[error(
        "the service does not accept this agent's token ({0}). Check RELAYTRACE_URL and the key; an administrator \
         registers a new one"
    )]
    WrongKey(String),
    /// No answer that counts came in time: whether the call had an effect is not known, and it may be sent again.
    #[error("no answer that counts after {tries} tries; the last: {last}. {}", why.advice())]
    NoAnswer {
        /// How often it was sent.
        tries: usize,
        /// What the last try met.
        why: Lost,
        /// The result of the last try.
        last: String,
    },
    /// The service answered for another action than the one that was asked about.
    #[error("the service answered for the action {answered}, asked was {asked}")]
    OtherAnswer {
        /// Digest of the action asked about.
        asked: String,
        /// Digest in the answer.
        answered: String,
    },
    /// The two clocks differ by more than the 30 s that signatures and tokens allow.
    #[error("this machine's clock is {}, more than the 30 s that are allowed: set it", off(*.ahead_seconds))]
    WrongClock {
        /// How far this machine's clock is ahead of the service's; negative if it is behind.
        ahead_seconds: i64,
    },
    /// Nobody decided in time, and the service's sweep did not either: the request is pending after its deadline.
    #[error("{request_id} is still pending after its deadline, {respond_by}: the service's sweep does not run")]
    Undecided {
        /// The request.
        request_id: Uuid,
        /// Its deadline.
        respond_by: chrono::DateTime<chrono::Utc>,
    },
    /// The decision was read, not delivered: `retry` and `failed` need a delivery.
    #[error("this decision was not delivered by a poll")]
    NotDelivered,
    /// There is no approval that could be used now.
    #[error(transparent)]
    NotApproved(Box<NotApproved>),
    /// A receipt does not verify.
    #[error("the receipt does not verify: {0}")]
    WrongReceipt(String),
    /// A verified answer does not follow the contract.
    #[error("an answer is not as the contract says: {0}")]
    ContractBroken(String),
}

/// What a call met instead of an answer that counts. None of it is an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nothing answers at the address.
    Unreachable,
    /// Something else than a relay answers there.
    WrongUrl,
    /// No answer came in time.
    TooSlow,
    /// The relay cannot serve the call now (503), or not so often (429).
    Unavailable,
    /// An administrator holds what the call is about.
    Frozen,
    /// The answer is signed with another secret.
    WrongSecret,
    /// The answer is not signed, or not as the contract says.
    Unverified,
    /// The answer is signed, and is about another question.
    OtherAnswer,
}

impl Lost {
    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "Check RELAYTRACE_URL, and that the relay runs",
            Self::WrongUrl => "Check RELAYTRACE_URL: it is no relay, or a proxy answers for it",
            Self::TooSlow => "The relay is there and does not answer in time; try again later",
            Self::Unavailable => "The relay cannot serve this now; try again later",
            Self::Frozen => "An administrator holds this; its approval stands until it expires",
            Self::WrongSecret => "Check RELAYTRACE_RESPONSE_SECRET: is it this key's, and the relay the one meant?",
            Self::Unverified => "A proxy may have written the answer: it does not count",
            Self::OtherAnswer => "A proxy or cache mixes answers up: they do not count",
        }
    }

    /// What will not be right by trying, unless it was right before: an address, a secret.
    pub(crate) fn is_hopeless(self) -> bool {
        matches!(self, Self::WrongUrl | Self::WrongSecret)
    }
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
    #[serde(default)]
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
