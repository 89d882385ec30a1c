/* relaytrace: drop_expired_dedupe */
-- Drops keys that are free. What is past its time and still kept is moved on to when it may be free: it is not looked at
-- before then. A request that is pending now keeps its key for 24 h at the least.
--
-- $1 now (null: the database's clock), $2 at most so many
WITH expired AS (
    SELECT agent_id, client_request_key, request_id FROM request_dedupe
    WHERE expires_at <= at_or_now($1)
    ORDER BY expires_at LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT e.*, COALESCE(h.decided_at, at_or_now($1)) + interval '24 hours' AS kept_until
    FROM expired e LEFT JOIN hitl_decisions h USING (request_id)
), moved AS (
    UPDATE request_dedupe d SET expires_at = j.kept_until
    FROM judged j
    WHERE d.agent_id = j.agent_id AND d.client_request_key = j.client_request_key AND j.kept_until > at_or_now($1)
), dropped AS (
    DELETE FROM request_dedupe d USING judged j
    WHERE d.agent_id = j.agent_id AND d.client_request_key = j.client_request_key AND j.kept_until <= at_or_now($1)
    RETURNING d.request_id
), forgotten AS (
    -- A harness that has not come back for so long has ended its session.
    DELETE FROM hook_waits w USING (
        SELECT request_id FROM hook_waits
        WHERE answered_at <= at_or_now($1) - interval '7 days'
        ORDER BY answered_at LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) old
    WHERE w.request_id = old.request_id
)
SELECT count(*) AS "dropped!" FROM dropped
