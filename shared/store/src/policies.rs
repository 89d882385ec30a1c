//! Timeout policies: how long a person has, and what happens then.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Store;
use super::pool::run;
use relaytrace_domain::{ActionType, AgentId, OnTimeout, Priority};
use relaytrace_domain::{Error, Result};

/// What a policy says of its scope.
#[derive(Clone, Debug)]
pub struct PolicyRule {
    /// Only for this agent.
    pub agent_id: Option<AgentId>,
    /// Only for this type of action.
    pub action_type: Option<ActionType>,
    /// For what is asked with this priority.
    pub priority: Priority,
    /// Time from submission to `respond_by`, in seconds.
    pub respond_within_seconds: i32,
    /// Share of that time after which the request is escalated; `None`: never.
    pub escalate_after_percent: Option<i16>,
    /// What happens at `respond_by`.
    pub on_timeout: OnTimeout,
    /// The least urgent priority that may be asked with in this scope.
    pub lowest_priority: Option<Priority>,
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
    /// For what is asked with this priority.
    pub priority: Priority,
    /// Time from submission to `respond_by`, in seconds.
    pub respond_within_seconds: i32,
    /// Share of that time after which the request is escalated; `None`: never.
    pub escalate_after_percent: Option<i16>,
    /// What happens at `respond_by`.
    pub on_timeout: OnTimeout,
    /// The least urgent priority that may be asked with in this scope.
    pub lowest_priority: Option<Priority>,
    /// Last change.
    pub updated_at: DateTime<Utc>,
    /// Who made it.
    pub updated_by: String,
}

impl Store {
    /// All policies, the widest first.
    pub async fn policies(&self) -> Result<Vec<PolicyRecord>> {
        run!(self, connection => sqlx::query_as!(
                    PolicyRecord,
                    r#"SELECT policy_id, agent_id AS "agent_id: AgentId", action_type AS "action_type: ActionType",
                        priority AS "priority: Priority", respond_within_seconds, escalate_after_percent,
                        on_timeout AS "on_timeout: OnTimeout", lowest_priority AS "lowest_priority: Priority",
                        updated_at, updated_by
                    FROM timeout_policies
                    ORDER BY agent_id NULLS FIRST, action_type NULLS FIRST, priority"#,
                )
                .fetch_all(connection))
    }

    /// Sets the policy of a scope. What was submitted before keeps the policy that applied then.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no such agent.
    pub async fn set_policy(&self, rule: &PolicyRule, updated_by: &str) -> Result<PolicyRecord> {
        // The agent is looked up in the statement: its absence is an answer here, not a broken foreign key.
        let row = run!(self, connection => sqlx::query_as!(
                    PolicyRecord,
                    r#"/* relaytrace: set_policy */
                    INSERT INTO timeout_policies (
                        agent_id, action_type, priority, respond_within_seconds, escalate_after_percent, on_timeout,
                        lowest_priority, updated_at, updated_by
                    )
                    SELECT $2::text, $3, $4, $5, $6, $7, $8, COALESCE($1::timestamptz, now()), $9
                    WHERE $2 IS NULL OR EXISTS (SELECT FROM agents a WHERE a.agent_id = $2)
                    ON CONFLICT ON CONSTRAINT timeout_policies_scope_key DO UPDATE
                    SET respond_within_seconds = excluded.respond_within_seconds,
                        escalate_after_percent = excluded.escalate_after_percent, on_timeout = excluded.on_timeout,
                        lowest_priority = excluded.lowest_priority, updated_at = excluded.updated_at,
                        updated_by = excluded.updated_by
                    RETURNING policy_id, agent_id AS "agent_id: AgentId", action_type AS "action_type: ActionType",
                        priority AS "priority: Priority", respond_within_seconds, escalate_after_percent,
                        on_timeout AS "on_timeout: OnTimeout", lowest_priority AS "lowest_priority: Priority",
                        updated_at, updated_by"#,
                    self.clock().for_database(),
                    rule.agent_id.as_ref().map(AgentId::as_str),
                    rule.action_type.as_ref().map(ActionType::as_str),
                    rule.priority as i16,
                    rule.respond_within_seconds,
                    rule.escalate_after_percent,
                    rule.on_timeout as OnTimeout,
                    rule.lowest_priority.map(|priority| priority as i16),
                    updated_by,
                )
                .fetch_optional(connection))?;
        row.ok_or_else(|| Error::invalid("/agent_id", "is no registered agent"))
    }
}
