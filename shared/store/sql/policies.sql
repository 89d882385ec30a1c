/* relaytrace: policies */
-- The policies of a tenant and of the deployment, the widest first.
--
-- $1 tenant_id
SELECT policy_id, agent_id AS "agent_id: AgentId", action_type AS "action_type: ActionType",
    priority AS "priority: Priority", respond_within_seconds, escalate_after_percent,
    on_timeout AS "on_timeout: OnTimeout", lowest_priority AS "lowest_priority: Priority",
    updated_at, updated_by, permit_seconds, consume_required
FROM timeout_policies
WHERE tenant_id IS NULL OR tenant_id = $1
ORDER BY agent_id NULLS FIRST, action_type NULLS FIRST, priority
