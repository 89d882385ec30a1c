/* relaytrace: policies */
-- The policies of a tenant, and those of the deployment that it has none of its own for, the widest first.
--
-- $1 tenant_id
SELECT p.policy_id, p.agent_id AS "agent_id: AgentId", p.action_type AS "action_type: ActionType",
    p.priority AS "priority: Priority", p.respond_within_seconds, p.escalate_after_percent,
    p.on_timeout AS "on_timeout: OnTimeout", p.lowest_priority AS "lowest_priority: Priority",
    p.updated_at, p.updated_by, p.permit_seconds, p.consume_required, p.approvals
FROM timeout_policies p
WHERE p.tenant_id = $1
    OR (p.tenant_id IS NULL AND NOT EXISTS (
        SELECT FROM timeout_policies o
        WHERE o.tenant_id = $1 AND o.priority = p.priority
            AND o.agent_id IS NOT DISTINCT FROM p.agent_id AND o.action_type IS NOT DISTINCT FROM p.action_type
    ))
ORDER BY p.agent_id NULLS FIRST, p.action_type NULLS FIRST, p.priority
