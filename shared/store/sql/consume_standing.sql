/* relaytrace: consume_standing */
-- How a permit stands that was not used. No row: the key or agent is not active.
--
-- $1 now (null: the database's clock), $2 key_id, $3 agent_id, $4 request_id, $5 whether by the scope execute-any
SELECT r.agent_id AS "agent_id?: AgentId", r.consumed_at, r.consumed_by, r.consume_key, r.permit_expires_at,
    CASE WHEN d.edited THEN (
        SELECT convert_from(c.entry, 'UTF8')::json ->> 'action_digest' FROM approval_chain c
        WHERE c.request_id = d.request_id AND c.seq = d.chain_seq
    ) ELSE digest_text(r.action_digest) END AS approved_digest,
    COALESCE(at_or_clock($1) >= r.permit_expires_at, false) AS "is_over!",
    EXISTS (
        SELECT FROM freezes f
        WHERE f.tenant_id = r.tenant_id AND f.ends_at > d.decided_at AND f.mode = 'stop'
            AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
            AND (f.action_type IS NULL OR f.action_type = r.action_type)
    ) AS "is_revoked!",
    EXISTS (
        SELECT FROM freezes f
        WHERE f.tenant_id = r.tenant_id AND f.ends_at > at_or_clock($1) AND f.mode = 'hold'
            AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
            AND (f.action_type IS NULL OR f.action_type = r.action_type)
    ) AS "is_held!"
FROM active_keys k
LEFT JOIN hitl_requests r ON r.request_id = $4 AND may_execute($5, k.agent_id, k.tenant_id, k.execute_agents,
    k.execute_action_types, r.agent_id, r.tenant_id, r.action_type)
LEFT JOIN hitl_decisions d ON d.request_id = r.request_id
WHERE k.key_id = $2 AND k.agent_id = $3
