/* relaytrace: set_policy */
-- Sets the policy of a scope. The agent is looked up here: its absence is an answer, not a broken foreign key.
--
-- $1 now (null: the database's clock), $2 agent_id (null: any), $3 action_type (null: any), $4 priority,
-- $5 respond_within_seconds, $6 escalate_after_percent (null: never), $7 on_timeout, $8 lowest_priority (null: any),
-- $9 the administrator,
-- $10 tenant_id
INSERT INTO timeout_policies (
    agent_id, action_type, priority, respond_within_seconds, escalate_after_percent, on_timeout,
    lowest_priority, updated_at, updated_by
)
SELECT $2::text, $3, $4, $5, $6, $7, $8, at_or_now($1), $9
WHERE $2 IS NULL OR EXISTS (SELECT FROM agents a WHERE a.agent_id = $2 AND a.tenant_id = $10)
ON CONFLICT ON CONSTRAINT timeout_policies_scope_key DO UPDATE
SET respond_within_seconds = excluded.respond_within_seconds,
    escalate_after_percent = excluded.escalate_after_percent, on_timeout = excluded.on_timeout,
    lowest_priority = excluded.lowest_priority, updated_at = excluded.updated_at,
    updated_by = excluded.updated_by
RETURNING policy_id, agent_id AS "agent_id: AgentId", action_type AS "action_type: ActionType",
    priority AS "priority: Priority", respond_within_seconds, escalate_after_percent,
    on_timeout AS "on_timeout: OnTimeout", lowest_priority AS "lowest_priority: Priority",
    updated_at, updated_by
