//! The words and rules of RelayTrace as types: parsed once, valid from then on. No I/O.
//!
//! Features add the parts that a deployment needs: `database` (columns of Postgres, its errors as failures), `http`
//! (errors as responses), `openapi` (schemas).

mod aap;
mod answers;
mod assignment;
mod chain;
mod channel;
mod clock;
#[cfg(feature = "database")]
mod database;
mod dead_letter;
mod decision;
mod delivery;
mod envelope;
mod error;
pub mod failure;
mod faults;
mod freeze;
mod ids;
mod json;
mod key;
mod permit;
mod replay;
#[cfg(feature = "http")]
mod response;
pub mod rules;
#[cfg(feature = "schemas")]
mod schema;
pub mod signing;
mod sla;
mod stale;
mod stored;
mod time;
mod timeout;
mod vote;

pub use aap::{AapBody, Bridged, Protocol, action_type_of, title_of};
pub use answers::{Answer, Answers, OnBehalfOf, PermitSeconds, without_case};
pub use assignment::{AssignedTo, Claim};
pub use chain::{Base64, ChainEntry, ChainHeader, ChainKind, DecidedEntry, SubmittedEntry, chain_genesis, chain_hash};
pub use channel::{ChannelKind, ChannelMatch, Matched, Notice, OnBehalf};
pub use clock::Clock;
#[cfg(feature = "database")]
pub use database::Refusal;
pub use dead_letter::{DeadLetterKind, Resolution};
pub use decision::{ActedFor, Actor, ActorKind, Cause, Decision, Execution, JsonText, Outcome, Written};
pub use delivery::DeliveryRules;
pub use envelope::{
    Action, Envelope, EnvelopeVersion, FreeObject, MAX_MEMBER_BYTES, Offer, Submission, action_digest, canonical_digest,
};
pub use error::{Error, Result};
pub use failure::Failure;
pub use faults::{Fault, Faults};
pub use freeze::FreezeMode;
pub use ids::{
    ActionPattern, ActionType, AgentId, ChannelId, ClientRequestKey, ConsumeKey, DelegationId, Digest, ErrorCode,
    FreezeId, GroupKey, GroupName, InvalidText, KeyId, Note, PersonId, PersonName, Priority, Reason, ReplayKey,
    RequestId, RuleName, SubscriptionId, Summary, TenantId, Title, mint_uuid,
};
pub use json::{Json, ParseError, from_object};
pub use key::{KeyRights, KeyScope};
pub use permit::{Permit, PermitRules, Reported};
pub use replay::{ReplayScope, ReplayState, ReplayTarget};
#[cfg(feature = "schemas")]
pub use schema::AnswerSchema;
pub use sla::SlaBy;
pub use stale::StaleReason;
pub use time::Timestamp;
pub use timeout::{OnTimeout, SweepPart};
pub use vote::{Approvals, MAX_APPROVALS, Verdict, Vote, VoteEntry, Voted};

use stored::stored_as_text;

/// Status of a request (product.md, "A request's life"): `pending`, then `decided`, never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for a person, its agent, an administrator or its deadline.
    Pending,
    /// Has its one decision.
    Decided,
}

stored_as_text!(Status { Pending = "pending", Decided = "decided" });

/// State of a delivery: ready ▶ leased ▶ acknowledged or dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// A poll may take it, at once or after its backoff.
    Ready,
    /// A poll took it and has not acknowledged it.
    Leased,
    /// The agent accepted it.
    Acknowledged,
    /// Set aside for an administrator.
    DeadLettered,
}

stored_as_text!(DeliveryState { Ready = "ready", Leased = "leased", Acknowledged = "acknowledged", DeadLettered = "dead_lettered" });

/// What an agent says of a delivery (contract, "Poll and acknowledge").
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, deserr::Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[deserr(rename_all = lowercase)]
pub enum AckResult {
    /// The agent has it; the handoff is over.
    Accepted,
    /// A failure that may pass: deliver again after a backoff.
    Retry,
    /// A failure that will not pass: dead-letter at once.
    Failed,
}

stored_as_text!(AckResult { Accepted = "accepted", Retry = "retry", Failed = "failed" });
