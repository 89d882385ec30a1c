//! Timeout policies: the time to respond, and the behaviour at its end.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::Scope;
use crate::database::Database;
use relaytrace_domain::{ActionType, ActorKind, AgentId, OnTimeout, Priority};
use relaytrace_domain::{Error, Result};

/// The rule of a policy for its scope.
#[derive(Clone, Debug)]
pub struct PolicyRule {
    /// Only for this agent.
    pub agent_id: Option<AgentId>,
    /// Only for this type of action.
    pub action_type: Option<ActionType>,
    /// For requests of this priority.
    pub priority: Priority,
    /// Time from submission to `respond_by`, in seconds.
    pub respond_within_seconds: i32,
    /// Share of that time after which the request is escalated; `None`: never.
    pub escalate_after_percent: Option<i16>,
    /// Behaviour at `respond_by`.
    pub on_timeout: OnTimeout,
    /// The least urgent priority that may be asked with in this scope.
    pub lowest_priority: Option<Priority>,
    /// How long an approval may be used at the most, in seconds.
    pub permit_seconds: Option<i32>,
    /// Whether a delivery can be accepted only after the permit was consumed.
    pub consume_required: bool,
    /// Approvals that decide, 1 to 10; `None`: one.
    pub approvals: Option<i16>,
}

/// A stored policy.
#[derive(Clone, Debug)]
pub struct PolicyRecord {
    /// Names it in chains.
    pub policy_id: Uuid,
    /// Only for this agent.
    pub agent_id: Option<AgentId>,
    /// Only for this type of action.
    pub action_type: Option<ActionType>,
    /// For requests of this priority.
    pub priority: Priority,
    /// Time from submission to `respond_by`, in seconds.
    pub respond_within_seconds: i32,
    /// Share of that time after which the request is escalated; `None`: never.
    pub escalate_after_percent: Option<i16>,
    /// Behaviour at `respond_by`.
    pub on_timeout: OnTimeout,
    /// The least urgent priority that may be asked with in this scope.
    pub lowest_priority: Option<Priority>,
    /// How long an approval may be used at the most, in seconds.
    pub permit_seconds: Option<i32>,
    /// Whether a delivery can be accepted only after the permit was consumed.
    pub consume_required: bool,
    /// Approvals that decide, 1 to 10; `None`: one.
    pub approvals: Option<i16>,
    /// Last change.
    pub updated_at: DateTime<Utc>,
    /// The administrator who made it.
    pub updated_by: String,
}

impl Database {
    /// All policies, the widest first.
    pub async fn policies(&self, scope: &Scope) -> Result<Vec<PolicyRecord>> {
        self.all(|| sqlx::query_file_as!(PolicyRecord, "sql/policies.sql", scope.tenant.as_str())).await
    }

    /// Sets the policy of a scope. Requests that were submitted before keep the policy that applied then.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no such agent.
    pub async fn set_policy(&self, scope: &Scope, rule: &PolicyRule) -> Result<PolicyRecord> {
        // The agent is looked up in the statement: its absence is an answer here, not a broken foreign key.
        let row = self
            .optional(|| {
                sqlx::query_file_as!(
                    PolicyRecord,
                    "sql/set_policy.sql",
                    self.clock().for_database(),
                    rule.agent_id.as_ref().map(AgentId::as_str),
                    rule.action_type.as_ref().map(ActionType::as_str),
                    rule.priority as i16,
                    rule.respond_within_seconds,
                    rule.escalate_after_percent,
                    rule.on_timeout as OnTimeout,
                    rule.lowest_priority.map(|priority| priority as i16),
                    &scope.actor.id,
                    scope.tenant.as_str(),
                    scope.actor.kind as ActorKind,
                    scope.actor.name.as_deref(),
                    rule.permit_seconds,
                    rule.consume_required,
                    rule.approvals,
                )
            })
            .await?;
        row.ok_or_else(|| Error::invalid("/agent_id", "is no registered agent"))
    }

    /// Removes a policy; the log keeps its last version. Requests keep the policy of their submission. Removing it
    /// again is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] for the policy of every agent and action type.
    pub async fn delete_policy(&self, scope: &Scope, policy_id: Uuid) -> Result<()> {
        let deleted = self
            .execute(|| {
                sqlx::query_file!(
                    "sql/delete_policy.sql",
                    self.clock().for_database(),
                    policy_id,
                    scope.tenant.as_str(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                )
            })
            .await?;
        if deleted.rows_affected() == 1 {
            return Ok(());
        }
        let standing =
            self.one(|| sqlx::query_file!("sql/policy_standing.sql", policy_id, scope.tenant.as_str())).await?;
        match (standing.is_widest, standing.was_deleted) {
            (true, _) => Err(Error::Conflict("the policy of every agent and action type can only be changed")),
            (false, true) => Ok(()),
            (false, false) => Err(Error::NotFound),
        }
    }
}
