//! Why there is no approval that could be used now. None of these is one.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::error::Error;
use crate::model::{Actor, Decision, Outcome, RequestState};

/// A question without an approval that could be used, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why} (request {request_id})")]
pub struct NotApproved {
    /// The request.
    pub request_id: Uuid,
    /// The agent's own key: the same key finds the request again.
    pub client_request_key: String,
    /// The reason.
    pub why: Why,
    /// The decision, where there is one.
    pub decision: Option<Decision>,
}

/// Reasons for not running an action, each with words of its own.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Why {
    /// A person or an administrator said no.
    #[error("{} rejected it: {}", named(by), reason.as_deref().unwrap_or("no reason was given"))]
    Rejected {
        /// By whom.
        by: Actor,
        /// In their words.
        reason: Option<String>,
    },
    /// A rule said no; no person looked at it.
    #[error("a rule forbids it ({}): {}", by.id, reason.as_deref().unwrap_or("no reason was given"))]
    RejectedByRule {
        /// The rule.
        by: Actor,
        /// In its words.
        reason: Option<String>,
    },
    /// Nobody decided before the deadline: no person said no.
    #[error("nobody answered in time; no person said no")]
    TimedOut,
    /// The question was withdrawn.
    #[error("the question was withdrawn: {}", reason.as_deref().unwrap_or("no reason was given"))]
    Cancelled {
        /// In the words of who withdrew it.
        reason: Option<String>,
    },
    /// A person answered with a value instead.
    #[error("a person answered instead: {0}")]
    Responded(Value),
    /// The caller's own patience ended first. The question stands until its deadline.
    #[error("nobody has decided so far; it may be answered until {respond_by}")]
    StillPending {
        /// Its deadline.
        respond_by: DateTime<Utc>,
    },
    /// The approval was used before, by this or another process. It is never asked for again by itself.
    #[error("its approval was used before: find out whether that took effect before asking anew")]
    AlreadyUsed,
    /// The approval was not used in the time that it was good for.
    #[error("its approval was not used in time, and is not good any more")]
    PermitExpired,
    /// An administrator stopped what was approved.
    #[error("an administrator has stopped this: {0}")]
    PermitRevoked(String),
    /// An administrator holds it for now; the approval stands.
    #[error("an administrator holds this for now; its approval stands")]
    Frozen,
    /// An outcome that this client does not know.
    #[error("its outcome is none that this client knows")]
    UnknownOutcome,
}

fn named(by: &Actor) -> &str {
    by.name.as_deref().unwrap_or(&by.id)
}

impl Why {
    /// Of a decision; None where it is an approval.
    #[must_use]
    pub fn of(decision: &Decision) -> Option<Self> {
        let (by, reason) = (decision.decided_by.clone(), decision.reason.clone());
        Some(match decision.outcome {
            Outcome::Approved => return None,
            Outcome::Rejected if decision.cause == "timeout" => Self::TimedOut,
            Outcome::Rejected if by.kind == "system" => Self::RejectedByRule { by, reason },
            Outcome::Rejected => Self::Rejected { by, reason },
            Outcome::Cancelled => Self::Cancelled { reason },
            Outcome::Responded => Self::Responded(decision.response.clone().unwrap_or_default()),
            Outcome::Unknown => Self::UnknownOutcome,
        })
    }

    pub(crate) fn about(self, request: &RequestState, decision: Option<&Decision>) -> Error {
        Error::NotApproved(Box::new(NotApproved {
            request_id: request.request_id,
            client_request_key: request.client_request_key.clone(),
            why: self,
            decision: decision.cloned(),
        }))
    }
}
