/* relaytrace: request_of_key */
-- The request that an agent's key stands for. No row: the key of the token is not active.
--
-- $1 now, $2 key_id, $3 agent_id, $4 client_request_key
SELECT d.request_id AS "request_id?: RequestId"
FROM active_keys k
LEFT JOIN request_dedupe d ON d.agent_id = k.agent_id AND d.client_request_key = $4
    -- Kept as sql/submit.sql keeps it: for its time, while its request is pending, and 24 h from the decision.
    AND (
        d.expires_at > at_or_now($1::timestamptz)
        OR NOT EXISTS (
            SELECT FROM hitl_decisions h
            WHERE h.request_id = d.request_id AND h.decided_at <= at_or_now($1) - interval '24 hours'
        )
    )
WHERE k.key_id = $2 AND k.agent_id = $3
