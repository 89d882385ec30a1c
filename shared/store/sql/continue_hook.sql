/* relaytrace: continue_hook */
-- The request that a harness's call is about, where there is one: that of the call's key, or else the newest of its session
-- that asks the same and whose harness was last told to wait. Of that one the call becomes one more key. Either is waited
-- for from now on. No row: the key or agent is not active.
--
-- $1 now (null: the database's clock), $2 key_id, $3 agent_id, $4 client_request_key, $5 session_id, $6 action_digest,
-- $7 how long a key is kept, in seconds
WITH caller AS MATERIALIZED (
    SELECT k.agent_id FROM active_keys k WHERE k.key_id = $2 AND k.agent_id = $3
), standing AS MATERIALIZED (
    SELECT d.request_id, d.fingerprint
    FROM caller k
    JOIN request_dedupe d ON d.agent_id = k.agent_id AND d.client_request_key = $4
        -- Kept as sql/submit.sql keeps it.
        AND (
            d.expires_at > at_or_now($1::timestamptz)
            OR NOT EXISTS (
                SELECT FROM hitl_decisions h
                WHERE h.request_id = d.request_id AND h.decided_at <= at_or_now($1) - interval '24 hours'
            )
        )
), newest AS MATERIALIZED (
    -- Of calls that ask the same at the same time each takes another one.
    SELECT w.request_id
    FROM hook_waits w
    WHERE w.agent_id = $3 AND w.session_id = $5 AND w.action_digest = $6 AND EXISTS (SELECT FROM caller)
        AND w.request_id = COALESCE((SELECT request_id FROM standing), w.request_id)
    ORDER BY w.answered_at DESC, w.request_id DESC LIMIT 1
    FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM hook_waits w USING newest n WHERE w.request_id = n.request_id RETURNING w.request_id
), keyed AS (
    INSERT INTO request_dedupe AS d (agent_id, client_request_key, fingerprint, request_id, expires_at)
    SELECT $3, $4, $6, request_id, at_or_now($1) + make_interval(secs => $7::double precision)
    FROM taken WHERE NOT EXISTS (SELECT FROM standing)
    ON CONFLICT (agent_id, client_request_key) DO UPDATE
    SET fingerprint = excluded.fingerprint, request_id = excluded.request_id, expires_at = excluded.expires_at
    WHERE d.expires_at <= at_or_now($1)
)
SELECT s.request_id AS "standing?: RequestId", s.fingerprint AS "fingerprint?", t.request_id AS "continued?: RequestId"
FROM caller k LEFT JOIN standing s ON true LEFT JOIN taken t ON true
