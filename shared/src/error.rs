//! The one error type: conditions, not places.
//!
//! [`Error::kind`] is the classification that the contract promises ("Errors"): what it is called, which status it
//! has, whether the same call may succeed later. HTTP, the sweep and delivery all use it.

use std::time::Duration;

use crate::domain::{Decision, Fault, Faults, ParseError, Timestamp};

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can keep a call from its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is not JSON, is empty, is not UTF-8, or has duplicate members.
    #[error("the body is not valid JSON: {0}")]
    MalformedJson(String),
    /// Who calls is not known. The reason is for the log only: every failure answers alike.
    #[error("the bearer token is missing or not valid")]
    Unauthenticated(&'static str),
    /// Who calls is known and may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// It does not exist, or the caller may not know that it does.
    #[error("there is no such resource")]
    NotFound,
    /// The resource exists and does not know this method.
    #[error("the method is not allowed here")]
    MethodNotAllowed,
    /// Someone else's decision stands.
    #[error("the request is decided already")]
    AlreadyDecided(Box<Decision>),
    /// The deadline for an answer has passed.
    #[error("the time to respond ended at {respond_by}")]
    Expired {
        /// When it ended.
        respond_by: Timestamp,
    },
    /// The operator saw another action than the one that is stored.
    #[error("the action digest is not that of the request")]
    ActionMismatch,
    /// The delivery was handed out again since, or never with this id.
    #[error("the delivery id is not that of the latest delivery")]
    StaleDelivery,
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(&'static str),
    /// The body is longer than this route takes.
    #[error("the body is longer than {limit} bytes")]
    PayloadTooLarge {
        /// Longest body, in bytes.
        limit: usize,
    },
    /// The body is not declared as JSON.
    #[error("the body must be application/json in UTF-8")]
    UnsupportedMediaType,
    /// Members, parameters or headers are not as they must be.
    #[error("{} of the request's values {} not valid", .0.len(), if .0.len() == 1 { "is" } else { "are" })]
    Invalid(Vec<Fault>),
    /// The key stands for another envelope.
    #[error("the client_request_key was used for another envelope in the last 7 days")]
    IdempotencyKeyReused,
    /// Something that is needed cannot be reached, or did not answer in time.
    #[error("the service is not available for the moment")]
    Unavailable(#[source] anyhow::Error),
    /// A fault of ours.
    #[error("the service failed")]
    Internal(#[source] anyhow::Error),
}

/// What the contract says of an error, whatever its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The last part of the problem's type.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// The problem's title.
    pub title: &'static str,
    /// After how long the same call may succeed; `None`: not by itself.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// The contract's classification.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let kind = |code, status, title| Kind { code, status, title, retry_after: None };
        match self {
            Self::MalformedJson(_) => kind("malformed-json", 400, "Malformed JSON"),
            Self::Unauthenticated(_) => kind("unauthenticated", 401, "Not authenticated"),
            Self::Forbidden(_) => kind("forbidden", 403, "Forbidden"),
            Self::NotFound => kind("not-found", 404, "Not found"),
            Self::MethodNotAllowed => kind("method-not-allowed", 405, "Method not allowed"),
            Self::AlreadyDecided(_) => kind("already-decided", 409, "Already decided"),
            Self::Expired { .. } => kind("expired", 409, "Expired"),
            Self::ActionMismatch => kind("action-mismatch", 409, "Another action"),
            Self::StaleDelivery => kind("stale-delivery", 409, "Stale delivery"),
            Self::Conflict(_) => kind("conflict", 409, "Conflict"),
            Self::PayloadTooLarge { .. } => kind("payload-too-large", 413, "Payload too large"),
            Self::UnsupportedMediaType => kind("unsupported-media-type", 415, "Unsupported media type"),
            Self::Invalid(_) => kind("validation-failed", 422, "Validation failed"),
            Self::IdempotencyKeyReused => kind("idempotency-key-reused", 422, "Idempotency key reused"),
            Self::Internal(_) => kind("internal", 500, "Internal error"),
            Self::Unavailable(_) => {
                Kind { retry_after: Some(Duration::from_secs(1)), ..kind("unavailable", 503, "Unavailable") }
            }
        }
    }

    /// One fault at `pointer`.
    #[must_use]
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault { pointer: pointer.into(), detail: detail.into() }])
    }

    /// A failed look-up of keys: whatever went wrong, it must not read as a wrong token.
    #[must_use]
    pub fn into_unavailable(self) -> Self {
        match self {
            Self::Unavailable(source) | Self::Internal(source) => Self::Unavailable(source),
            other => Self::Unavailable(other.into()),
        }
    }

    /// An internal error from whatever should not have happened.
    pub fn internal(source: impl Into<anyhow::Error>) -> Self {
        Self::Internal(source.into())
    }
}

impl From<Faults> for Error {
    fn from(faults: Faults) -> Self {
        Self::Invalid(faults.0)
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Malformed(detail) => Self::MalformedJson(detail),
            ParseError::Invalid(faults) => faults.into(),
        }
    }
}

/// Lost connections, exhausted pools, a server that starts or stops: unavailable. The rest is our fault.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let unavailable = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            // Class 08 connection exceptions, 53 insufficient resources, 57 operator intervention, and what is
            // still in conflict after its retries (PostgreSQL, appendix A).
            sqlx::Error::Database(database) => database.code().is_some_and(|code| {
                ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || is_conflict(&code)
            }),
            _ => false,
        };
        if unavailable { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

/// Serialization failure or deadlock: the same statement may be sent again at once.
pub(crate) fn is_conflict(sqlstate: &str) -> bool {
    matches!(sqlstate, "40001" | "40P01")
}
