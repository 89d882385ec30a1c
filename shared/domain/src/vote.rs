//! Votes: the approvals of a request that needs more than one (contract, "Votes").

use serde::{Deserialize, Serialize};

use super::Status;
use super::decision::{Actor, ActorKind, Decision, Outcome};
use super::error::{Error, Result};
use super::ids::{Digest, RequestId};
use super::time::Timestamp;

/// The most approvals that a policy may ask for.
pub const MAX_APPROVALS: u8 = 10;

/// Operators' approvals of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approvals {
    /// This many approvals decide it.
    pub required: u8,
    /// The approvals so far, the deciding one included.
    pub given: u8,
}

impl Approvals {
    /// Reads the stored columns; `decision` is the request's own, if it has one.
    ///
    /// # Errors
    /// [`Error::Internal`] where they are no counts.
    pub fn stored(required: Option<i16>, votes: Option<i16>, decision: Option<(Outcome, ActorKind)>) -> Result<Self> {
        let count = |stored: Option<i16>, absent| stored.map_or(Ok(absent), u8::try_from).map_err(Error::internal);
        let decides = decision == Some((Outcome::Approved, ActorKind::Operator));
        Ok(Self { required: count(required, 1)?, given: count(votes, 0)?.saturating_add(decides.into()) })
    }

    /// Whether one approval is not enough.
    #[must_use]
    pub const fn are_several(self) -> bool {
        self.required > 1
    }
}

/// One approval, as every reader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Vote {
    /// The operator who approved.
    pub voted_by: Actor,
    /// When.
    pub voted_at: Timestamp,
    /// The reason given, if any.
    pub reason: Option<String>,
}

/// One approval as the request's row and the `decided` entry list it: the members of its own entry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VoteEntry {
    /// Its position in the chain.
    pub seq: i32,
    /// When.
    pub at: Timestamp,
    /// The operator who approved.
    pub actor: Actor,
    /// The reason given.
    #[serde(default)]
    pub reason: Option<String>,
}

impl VoteEntry {
    /// Reads the stored column.
    ///
    /// # Errors
    /// [`Error::Internal`] where it is no list of votes.
    pub fn stored(votes: Option<&str>) -> Result<Vec<Self>> {
        votes.map_or(Ok(Vec::new()), |votes| serde_json::from_str(votes).map_err(Error::internal))
    }
}

impl From<VoteEntry> for Vote {
    fn from(VoteEntry { actor, at, reason, .. }: VoteEntry) -> Self {
        Self { voted_by: actor, voted_at: at, reason }
    }
}

impl Vote {
    /// The approval that a decision is, if it is one.
    #[must_use]
    pub fn deciding(decision: &Decision) -> Option<Self> {
        let is_vote = decision.outcome == Outcome::Approved && decision.decided_by.kind == ActorKind::Operator;
        is_vote.then(|| Self {
            voted_by: decision.decided_by.clone(),
            voted_at: decision.decided_at,
            reason: decision.reason.clone(),
        })
    }
}

/// The answer to an approval that did not decide: the request still needs others (contract, "Votes").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Voted {
    /// The request.
    pub request_id: RequestId,
    /// It is still pending.
    pub status: Status,
    /// Its approvals, this one included.
    pub approvals: Approvals,
    /// The action that was approved.
    pub action_digest: Digest,
}

impl Voted {
    /// The answer of this request, which is pending.
    #[must_use]
    pub fn pending(request_id: RequestId, approvals: Approvals, action_digest: Digest) -> Self {
        Self { request_id, status: Status::Pending, approvals, action_digest }
    }
}

/// What an operator's answer became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Verdict {
    /// The decision as it stands.
    Decided(Box<Decision>),
    /// A vote of a request that needs others.
    Voted(Voted),
}
