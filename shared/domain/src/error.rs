//! The one error type: conditions, not places.
//!
//! [`Error::failure`] classifies it: its code, its status, and who tries again and when.

use crate::failure::Answer;
use crate::{Decision, Failure, Faults, ParseError, Timestamp};

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can keep a call from its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is not JSON, is empty, is not UTF-8, or has duplicate members.
    #[error("the body is not valid JSON: {0}")]
    MalformedJson(String),
    /// The caller is not authenticated. The reason is for the log only: all such failures have the same answer.
    #[error("the bearer token is missing or not valid")]
    Unauthenticated(&'static str),
    /// The caller is authenticated and may not do this.
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
    /// The operator saw another action than the stored one.
    #[error("the action digest is not that of the request")]
    ActionMismatch,
    /// The decider is the person for whom the agent acts.
    #[error("the agent acts for you: somebody else has to approve it")]
    OwnRequest,
    /// The request is assigned to others, or nobody has delegated it to the caller.
    #[error("the request is assigned to others")]
    NotAssigned,
    /// The operator has approved already, in other words or for somebody else: nobody counts twice.
    #[error("your approval is on record already")]
    AlreadyVoted,
    /// The delivery was handed out again since, or never with this id.
    #[error("the delivery id is not that of the latest delivery")]
    StaleDelivery,
    /// There is no approval that could be used.
    #[error("the request has no approval that may be used")]
    NotApproved,
    /// Another attempt has used the approval.
    #[error("the approval was used already")]
    AlreadyConsumed,
    /// A stop came after the approval.
    #[error("the approval was revoked")]
    PermitRevoked,
    /// An administrator has frozen what this is about.
    #[error("an administrator has frozen this for now")]
    Frozen,
    /// The approval was not used in time.
    #[error("the approval could be used until {expires_at}")]
    PermitExpired {
        /// When that ended.
        expires_at: Timestamp,
    },
    /// Nobody has used the approval.
    #[error("the approval was not used: consume it first")]
    NotConsumed,
    /// Another outcome stands.
    #[error("another outcome is on record")]
    OutcomeConflict,
    /// The change says not what it is based on.
    #[error("the header If-Match must name the version that is changed")]
    VersionRequired,
    /// Another version stands than the change is based on.
    #[error("another version stands: read it again")]
    VersionChanged,
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
    #[error("{}", in_words(.0))]
    Invalid(Faults),
    /// The key stands for another envelope.
    #[error("the client_request_key stands for another envelope")]
    IdempotencyKeyReused,
    /// The agent has as many requests pending as an administrator lets it have, or as many calls that wait as may.
    #[error("the agent has reached its {cap}")]
    RateLimited {
        /// Which cap: `max_pending`, `max_pending_p1` or `256 waiting calls`.
        cap: String,
    },
    /// Something that is needed cannot be reached, or did not answer in time.
    #[error("the service is not available for the moment")]
    Unavailable(#[source] anyhow::Error),
    /// It is done, and what began before it has not ended yet: the same call waits for it again.
    #[error("the freeze stands, and calls that began before it have not ended yet: send this one again")]
    Unsettled,
    /// A fault of ours.
    #[error("the service failed")]
    Internal(#[source] anyhow::Error),
}

impl Error {
    /// The classification.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::MalformedJson(_) => Failure::MalformedJson,
            Self::Unauthenticated(_) => Failure::Unauthenticated,
            Self::Forbidden(_) => Failure::Forbidden,
            Self::NotFound => Failure::NotFound,
            Self::MethodNotAllowed => Failure::MethodNotAllowed,
            Self::AlreadyDecided(_) => Failure::AlreadyDecided,
            Self::Expired { .. } => Failure::Expired,
            Self::ActionMismatch => Failure::ActionMismatch,
            Self::OwnRequest => Failure::OwnRequest,
            Self::NotAssigned => Failure::NotAssigned,
            Self::AlreadyVoted => Failure::AlreadyVoted,
            Self::StaleDelivery => Failure::StaleDelivery,
            Self::NotApproved => Failure::NotApproved,
            Self::AlreadyConsumed => Failure::AlreadyConsumed,
            Self::PermitRevoked => Failure::PermitRevoked,
            Self::Frozen => Failure::Frozen,
            Self::PermitExpired { .. } => Failure::PermitExpired,
            Self::NotConsumed => Failure::NotConsumed,
            Self::OutcomeConflict => Failure::OutcomeConflict,
            Self::VersionRequired => Failure::VersionRequired,
            Self::VersionChanged => Failure::VersionChanged,
            Self::Conflict(_) => Failure::Conflict,
            Self::PayloadTooLarge { .. } => Failure::PayloadTooLarge,
            Self::UnsupportedMediaType => Failure::UnsupportedMediaType,
            Self::Invalid(_) => Failure::ValidationFailed,
            Self::IdempotencyKeyReused => Failure::IdempotencyKeyReused,
            Self::RateLimited { .. } => Failure::RateLimited,
            Self::Internal(_) => Failure::Internal,
            Self::Unavailable(_) | Self::Unsettled => Failure::Unavailable,
        }
    }

    /// What the caller is told.
    #[must_use]
    pub fn answer(&self) -> Answer {
        self.failure().answer().or(Failure::Internal.answer()).expect("an internal error has an answer")
    }

    /// One fault at `pointer`.
    #[must_use]
    pub fn invalid(pointer: impl AsRef<str>, detail: impl Into<String>) -> Self {
        let mut faults = Faults::default();
        faults.add(pointer, detail);
        Self::Invalid(faults)
    }

    /// A failed look-up of keys: no such failure may read as a wrong token.
    #[must_use]
    pub fn into_unavailable(self) -> Self {
        match self {
            Self::Unavailable(source) | Self::Internal(source) => Self::Unavailable(source),
            other => Self::Unavailable(other.into()),
        }
    }

    /// An internal error from an unexpected failure.
    pub fn internal(source: impl Into<anyhow::Error>) -> Self {
        Self::Internal(source.into())
    }
}

fn in_words(faults: &Faults) -> String {
    let (listed, more) = (faults.listed().len(), faults.more());
    match (listed, more) {
        (1, 0) => "1 of the request's values is not valid".into(),
        (_, 0) => format!("{listed} of the request's values are not valid"),
        _ => format!("{listed} of the request's values and {more} more are not valid"),
    }
}

impl From<Faults> for Error {
    fn from(faults: Faults) -> Self {
        Self::Invalid(faults)
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
