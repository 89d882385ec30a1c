//! One request in full, as an operator sees it.

use chrono::{DateTime, Utc};

use crate::Scope;
use crate::chain::digest;
use crate::database::Database;
use crate::queue::{QueueItem, ReportedError};
use crate::standing::FoundDecision;
use relaytrace_domain::rules::RuleOf;
use relaytrace_domain::{
    ActedFor, ActorKind, AgentId, Approvals, AssignedTo, Cause, Claim, ClientRequestKey, Decision, DeliveryState,
    Digest, Error, Execution, Failure, Outcome, Permit, Priority, Protocol, RequestId, Result, Status, Timestamp, Vote,
    VoteEntry, Written,
};

/// Where a decision is on its way, as an operator sees it.
#[derive(Clone, Debug)]
pub struct DeliverySeen {
    /// Its state.
    pub state: DeliveryState,
    /// How often it was handed out.
    pub attempt: i32,
    /// End of the latest lease.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// What the agent said of the latest attempt: accepted, retry or failed.
    pub result: Option<String>,
    /// The agent's report, where the delivery ended as a dead letter.
    pub error: Option<ReportedError>,
}

/// One request as an operator sees it.
#[derive(Clone, Debug)]
pub struct Detail {
    /// Its line in the queue.
    pub item: QueueItem,
    /// An answer does not count any more.
    pub is_over: bool,
    /// What the caller's approval would meet.
    pub not_approved_for: Option<Failure>,
    /// The caller is one of those who may decide it.
    pub may_decide: bool,
    /// Operators for whom the caller may decide it.
    pub may_act_for: Vec<ActedFor>,
    /// The rule that applied.
    pub rule: Option<RuleOf>,
    /// The agent's own key.
    pub client_request_key: ClientRequestKey,
    /// Of the action shown.
    pub action_digest: Digest,
    /// The envelope's exact bytes; `None`: erased.
    pub envelope: Option<Vec<u8>>,
    /// Whose words they are; `None`: RelayTrace's own.
    pub protocol: Option<Protocol>,
    /// Its decision.
    pub decision: Option<Decision>,
    /// Approvals of operators, as they now stand.
    pub approvals: Approvals,
    /// The approvals, the oldest first; the one that decided is the last.
    pub votes: Vec<Vote>,
    /// The operator's edit or response.
    pub written: Option<Written>,
    /// Its delivery.
    pub delivery: Option<DeliverySeen>,
    /// When its agent last polled, to about 5 seconds.
    pub agent_last_polled_at: Option<DateTime<Utc>>,
    /// Bytes and hash of every chain entry, oldest first.
    pub chain: Vec<(Vec<u8>, Digest)>,
    /// Until when its approval may be used.
    pub permit: Option<Permit>,
    /// Its decision was stored before decisions were attested.
    pub is_from_before: bool,
}

impl Database {
    /// One request in full.
    pub async fn detail(&self, scope: &Scope, request_id: RequestId) -> Result<Option<Detail>> {
        let now = self.clock().for_database();
        let row = self
            .optional(|| sqlx::query_file!("sql/detail.sql", request_id.0, now, scope.tenant.as_str(), scope.person()))
            .await?;
        let Some(row) = row else { return Ok(None) };
        let action_digest = digest(row.action_digest)?;
        let written = Written::stored(row.written_action, row.written_response)?;
        let found = FoundDecision {
            outcome: row.outcome,
            cause: row.cause,
            kind: row.decided_by_kind,
            id: row.decided_by_id,
            name: row.decided_by_name,
            acts_for: row.decided_for.map(|id| ActedFor { id, name: row.decided_for_name }),
            at: row.decided_at,
            reason: row.reason,
            approved_digest: row.approved_digest,
            edited: row.edited,
            written: written.clone(),
        };
        let decision = found.of(request_id, action_digest)?;
        let approvals =
            Approvals::stored(row.approvals_required, row.approvals_given, row.outcome.zip(row.decided_by_kind))?;
        let mut votes: Vec<_> = VoteEntry::stored(row.votes.as_deref())?.into_iter().map(Vote::from).collect();
        votes.extend(decision.as_ref().and_then(Vote::deciding));
        let has_voted = row.voters.is_some_and(|voters| voters.contains(&scope.actor.id));
        let result = row.delivery_result;
        let delivery_error =
            ReportedError::of(row.delivery_state, result.as_deref(), row.error_code, row.error_message);
        let hashes = row.hashes.into_iter().map(digest).collect::<Result<Vec<_>>>()?;
        Ok(Some(Detail {
            item: QueueItem {
                request_id,
                agent_id: row.agent_id,
                title: row.title,
                priority: row.priority,
                status: row.status,
                action_type: row.action_type,
                created_at: row.created_at,
                respond_by: row.respond_by,
                escalated_at: row.escalated_at,
                group: row.group_key,
                outcome: row.outcome,
                cause: row.cause,
                decided_at: row.decided_at,
                decided_by: decision.as_ref().map(|decision| decision.decided_by.clone()),
                delivery_state: row.delivery_state,
                delivery_error: delivery_error.clone(),
                execution: row.execution,
                assigned_to: AssignedTo::stored(row.assigned_groups, row.assigned_operators),
                claim: Claim::stored(row.claimed_by, row.claimed_by_name, row.claimed_until.map(Timestamp)),
            },
            may_decide: row.may_decide,
            may_act_for: acted_for(row.may_act_for.as_deref())?,
            rule: RuleOf::stored(row.rule_name, row.rules_version),
            is_over: row.is_over,
            permit: row.permit_expires_at.map(Permit::from),
            // In the order in which a decision is refused.
            not_approved_for: match (row.is_stopped, row.is_own, has_voted) {
                (true, ..) => Some(Failure::Frozen),
                (_, true, _) => Some(Failure::OwnRequest),
                (.., true) => Some(Failure::AlreadyVoted),
                (false, false, false) => None,
            },
            approvals,
            votes,
            client_request_key: row.client_request_key,
            action_digest,
            envelope: row.envelope,
            protocol: row.protocol,
            decision,
            written,
            delivery: row.delivery_state.zip(row.attempt).map(|(state, attempt)| DeliverySeen {
                state,
                attempt,
                lease_expires_at: row.lease_expires_at,
                result,
                error: delivery_error,
            }),
            agent_last_polled_at: row.last_polled_at,
            chain: row.entries.into_iter().zip(hashes).collect(),
            is_from_before: row.is_from_before,
        }))
    }
}

/// Operators of a JSON list.
fn acted_for(list: Option<&str>) -> Result<Vec<ActedFor>> {
    list.map_or(Ok(Vec::new()), |list| serde_json::from_str(list).map_err(Error::internal))
}
