/* relaytrace: standing_request */
-- How a submission stands that inserted nothing: what its key stands for, and what a policy says of it.
--
-- $1 now (null: the database's clock), $2 key_id, $3 agent_id, $4 client_request_key, $5 action_type, $6 priority,
-- $7 seconds to respond in by a rule (null: the policy's)
SELECT EXISTS (
        SELECT FROM active_keys k WHERE k.key_id = $2 AND k.agent_id = $3
    ) AS "active!",
    at_or_now($1) AS "now!",
    d.fingerprint AS "fingerprint?", d.request_id AS "request_id?: RequestId",
    p.lowest_priority AS "lowest_priority?: Priority",
    at_or_now($1) + make_interval(secs => COALESCE($7::integer, p.respond_within_seconds)) AS "latest!",
    a.tenant_id AS "tenant_id!: TenantId", a.rules_version
FROM agents a
CROSS JOIN LATERAL applying_terms(a.tenant_id, a.agent_id, $5, $6) p
LEFT JOIN request_dedupe d ON d.agent_id = $3 AND d.client_request_key = $4
    -- Kept as submit.sql keeps it.
    AND (
        d.expires_at > at_or_now($1)
        OR NOT EXISTS (
            SELECT FROM hitl_decisions h
            WHERE h.request_id = d.request_id AND h.decided_at <= at_or_now($1) - interval '24 hours'
        )
    )
WHERE a.agent_id = $3
