//! Bodies that agents read from several functions: a request, and its decision.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use relaytrace_domain::rules::RuleOf;
use relaytrace_domain::signing::ReceiptKeys;
use relaytrace_domain::{
    Actor, AgentId, Approvals, Cause, ClientRequestKey, Digest, Execution, JsonText, Outcome, Permit, Priority,
    RequestId, Status, Timestamp, Written,
};
use relaytrace_domain::{Error, Result};
use relaytrace_store::{Delivered, RequestState};

/// A request as its agent sees it (contract, "Submit").
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RequestView {
    agent_id: AgentId,
    /// Canonical: lower case, hyphenated.
    request_id: RequestId,
    client_request_key: ClientRequestKey,
    status: Status,
    priority: Priority,
    created_at: Timestamp,
    respond_by: Timestamp,
    action_digest: Digest,
    /// The same key and envelope were submitted before.
    duplicate: bool,
    /// The decision, if there is one; with its lease fields only where this answer leases it.
    decision: Option<DecisionView>,
    /// The rule that applied, or the first that could not be judged; null: none.
    rule: Option<RuleOf>,
    /// Approvals of operators that decide it, and those that are there.
    approvals: Approvals,
    /// How long the approval may be used.
    permit: Option<Permit>,
    execution: Execution,
}

impl RequestView {
    /// The view of this state, with its decision and receipt if it is decided.
    ///
    /// # Errors
    /// [`Error::Internal`] where the stored bytes do not have their hash.
    pub fn new(state: RequestState, delivered: Option<Delivered>, duplicate: bool, keys: &ReceiptKeys) -> Result<Self> {
        let permit = delivered.as_ref().and_then(|delivered| delivered.permit);
        let decision = delivered.map(|delivered| DecisionView::new(delivered, &state.agent_id, keys)).transpose()?;
        Ok(Self {
            agent_id: state.agent_id,
            request_id: state.request_id,
            client_request_key: state.client_request_key,
            status: state.status,
            priority: state.priority,
            created_at: Timestamp(state.created_at),
            respond_by: Timestamp(state.respond_by),
            action_digest: state.action_digest,
            duplicate,
            decision,
            rule: state.rule,
            approvals: state.approvals,
            permit,
            execution: state.execution,
        })
    }
}

/// The chain when the decision was made, as in the receipt.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ChainState {
    length: i32,
    head: Digest,
}

/// A decision on its way to its agent (contract, "Poll and acknowledge").
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DecisionView {
    request_id: RequestId,
    client_request_key: ClientRequestKey,
    outcome: Outcome,
    cause: Cause,
    decided_at: Timestamp,
    decided_by: Actor,
    reason: Option<String>,
    /// The action that was decided on: the edited one where it was edited.
    action_digest: Digest,
    /// The action that was asked for.
    requested_action_digest: Digest,
    /// Whether the operator changed the action.
    edited: bool,
    /// The action as the operator wrote it, byte for byte; only where they did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    action: Option<JsonText>,
    /// What the operator answered, byte for byte; only with the outcome `responded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    response: Option<JsonText>,
    /// What the agent gave to get back, byte for byte; null if it gave nothing.
    #[schema(value_type = Option<Object>)]
    resume: Option<Box<RawValue>>,
    /// Names this attempt; the acknowledgement carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    delivery_id: Option<Uuid>,
    /// How often it was handed out.
    attempt: i32,
    /// An administrator sent it out again.
    replayed: bool,
    /// Nobody else gets it before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_expires_at: Option<Timestamp>,
    /// How long the approval may be used; null: it is none, or from before permits.
    permit: Option<Permit>,
    chain: ChainState,
    /// Compact JWS, verifiable offline.
    receipt: String,
}

impl DecisionView {
    /// How long after the decision its agent has it, at this time; `None`: it had it before, or only looks at it.
    #[must_use]
    pub fn first_delivered_after(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let is_first = self.delivery_id.is_some() && self.attempt == 1 && !self.replayed;
        is_first.then(|| now - self.decided_at.0)
    }

    /// The view of this delivery, with its receipt.
    ///
    /// # Errors
    /// [`Error::Internal`] where the stored bytes do not have their hash.
    pub fn new(delivered: Delivered, agent_id: &AgentId, keys: &ReceiptKeys) -> Result<Self> {
        let (decided, receipt) = keys.receipt(&delivered.stored_decision(), agent_id)?;
        let resume = delivered.resume.map(|bytes| String::from_utf8(bytes).map_err(Error::internal)).transpose()?;
        let resume = resume.map(|text| RawValue::from_string(text).map_err(Error::internal)).transpose()?;
        Ok(Self {
            request_id: delivered.request_id,
            client_request_key: delivered.client_request_key,
            outcome: decided.outcome,
            cause: decided.cause,
            decided_at: decided.at,
            decided_by: decided.actor,
            reason: decided.reason,
            action_digest: decided.action_digest,
            requested_action_digest: decided.requested_action_digest.unwrap_or(decided.action_digest),
            edited: decided.edited,
            action: delivered.written.as_ref().and_then(Written::action).map(|(text, _)| text.clone()),
            response: delivered.written.as_ref().and_then(Written::response).map(|(text, _)| text.clone()),
            resume,
            delivery_id: delivered.lease.map(|(id, _)| id),
            attempt: delivered.attempt,
            replayed: delivered.replayed,
            lease_expires_at: delivered.lease.map(|(_, until)| Timestamp(until)),
            permit: delivered.permit,
            chain: ChainState { length: decided.seq, head: delivered.hash },
            receipt,
        })
    }
}
