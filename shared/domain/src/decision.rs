//! The one final outcome of a request, and who made it.

use deserr::Deserr;
use serde::{Deserialize, Serialize};

use super::ids::{Digest, RequestId};
use super::stored::stored_as_text;
use super::time::Timestamp;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The agent may run the action.
    Approved,
    /// The agent must not run it.
    Rejected,
    /// The question was withdrawn.
    Cancelled,
}

stored_as_text!(Outcome { Approved = "approved", Rejected = "rejected", Cancelled = "cancelled" });

/// Why it was decided. A timeout's rejection is never presented as a person's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A person at the queue.
    Operator,
    /// The timeout policy.
    Timeout,
    /// An administrator's disposition.
    Admin,
    /// The agent's own cancel.
    Agent,
}

stored_as_text!(Cause { Operator = "operator", Timeout = "timeout", Admin = "admin", Agent = "agent" });

/// What became of an approval (contract 1.1, "Permits"). Open: clients take what they do not know for "not done".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// Not approved, or decided before there were permits.
    None,
    /// Approved, and its permit can be used.
    Waiting,
    /// Approved; its permit ran out unused.
    Unused,
    /// Somebody used the permit and has not said how it went.
    Consumed,
    /// The action was carried out.
    Succeeded,
    /// The action failed.
    Failed,
    /// The permit was used, and nobody said how it went in time.
    Unknown,
}

stored_as_text!(Execution {
    None = "none",
    Waiting = "waiting",
    Unused = "unused",
    Consumed = "consumed",
    Succeeded = "succeeded",
    Failed = "failed",
    Unknown = "unknown",
});

/// What kind of principal acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person with the role `operator`.
    Operator,
    /// A person with the role `admin`.
    Admin,
    /// The agent itself.
    Agent,
    /// RelayTrace: `timeout-sweep`.
    System,
}

stored_as_text!(ActorKind { Operator = "operator", Admin = "admin", Agent = "agent", System = "system" });

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Actor {
    /// What kind of principal.
    pub kind: ActorKind,
    /// The token's `sub`, or `timeout-sweep`.
    pub id: String,
    /// The person's name as the token gave it.
    #[serde(default)]
    pub name: Option<String>,
}

impl Actor {
    /// The sweep that applies timeout policies.
    #[must_use]
    pub fn timeout_sweep() -> Self {
        Self { kind: ActorKind::System, id: "timeout-sweep".into(), name: None }
    }
}

/// What an operator chooses (contract, "Decide").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "openapi", schema(rename_all = "lowercase"))]
pub enum Verdict {
    /// Let the agent run the action.
    Approve,
    /// Keep the agent from running it.
    Reject,
}

impl Verdict {
    /// The outcome that it makes.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Approve => Outcome::Approved,
            Self::Reject => Outcome::Rejected,
        }
    }
}

/// A decision as every reader sees it (contract, "Decide").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Decision {
    /// The decided request.
    pub request_id: RequestId,
    /// What was decided.
    pub outcome: Outcome,
    /// Why.
    pub cause: Cause,
    /// Who decided.
    pub decided_by: Actor,
    /// When.
    pub decided_at: Timestamp,
    /// The reason given, if any.
    pub reason: Option<String>,
    /// The action that was decided on.
    pub action_digest: Digest,
}

impl Decision {
    /// Whether the same person said the same thing before: a retry, not a second decision.
    #[must_use]
    pub fn repeats(&self, actor: &Actor, outcome: Outcome, reason: Option<&str>) -> bool {
        self.decided_by.kind == actor.kind
            && self.decided_by.id == actor.id
            && self.outcome == outcome
            && self.reason.as_deref() == reason
    }
}
