/* relaytrace: outcome_standing */
-- What was said of a permit's use. No row: the key or agent is not active.
--
-- $1 key_id, $2 agent_id, $3 request_id, $4 whether by the scope execute-any
SELECT r.agent_id AS "agent_id?: AgentId", r.consumed_at, o.entry AS "entry?", o.at AS "at?",
    COALESCE(r.agent_id = k.agent_id OR u.agent_id = k.agent_id, false) AS "may_report!"
FROM active_keys k
LEFT JOIN (hitl_requests r LEFT JOIN agent_keys u ON u.key_id = r.consumed_by) ON r.request_id = $3
    AND (may_execute($4::boolean, k.agent_id, k.tenant_id, k.execute_agents, k.execute_action_types, r.agent_id,
            r.tenant_id, r.action_type)
        OR $4 AND u.agent_id = k.agent_id)
LEFT JOIN LATERAL (
    SELECT c.entry, c.at FROM approval_chain c
    WHERE c.request_id = r.request_id AND c.kind = 'outcome' ORDER BY c.seq DESC LIMIT 1
) o ON true
WHERE k.key_id = $1 AND k.agent_id = $2
