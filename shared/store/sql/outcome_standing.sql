/* relaytrace: outcome_standing */
-- What was said of a permit's use. No row: the key or agent is not active.
--
-- $1 key_id, $2 agent_id, $3 request_id
SELECT r.agent_id AS "agent_id?: AgentId", r.consumed_at, o.entry AS "entry?", o.at AS "at?"
FROM active_keys k
LEFT JOIN hitl_requests r ON r.request_id = $3 AND (r.agent_id = k.agent_id OR r.consumed_by = k.key_id)
LEFT JOIN LATERAL (
    SELECT c.entry, c.at FROM approval_chain c
    WHERE c.request_id = r.request_id AND c.kind = 'outcome' ORDER BY c.seq DESC LIMIT 1
) o ON true
WHERE k.key_id = $1 AND k.agent_id = $2
