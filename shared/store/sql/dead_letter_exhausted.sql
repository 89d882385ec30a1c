/* relaytrace: dead_letter_exhausted */
-- Dead-letters deliveries that are out of attempts or too old.
--
-- $1 now (null: the database's clock), $2 at most so many, $3 attempts that exhaust a delivery,
-- $4 only this request (null: any)
WITH exhausted AS (
    SELECT d.request_id FROM deliveries d
    -- With attempt, which is what deliveries_exhausted is for.
    WHERE d.state IN ('ready', 'leased') AND d.attempt >= 0
        AND d.expires_at <= at_or_now($1)
        AND ($4::uuid IS NULL OR d.request_id = $4)
        AND NOT EXISTS (
            SELECT FROM sweep_failures f WHERE f.part = 'dead_letter' AND f.request_id = d.request_id
                AND f.retry_at > at_or_now($1)
        )
    ORDER BY d.expires_at LIMIT $2
), request AS (
    -- Request before delivery, as everywhere.
    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority,
        COALESCE(r.approved_digest, r.action_digest) AS action_digest, r.changed_at, r.chain_length, r.chain_head
    FROM hitl_requests r JOIN exhausted USING (request_id)
    ORDER BY r.request_id
    FOR NO KEY UPDATE OF r SKIP LOCKED
), delivery AS (
    SELECT r.*, d.attempt, d.error_code, d.error_message, d.visible_at
    FROM request r
    JOIN deliveries d ON d.request_id = r.request_id AND d.state IN ('ready', 'leased')
        AND d.expires_at <= at_or_now($1)
    FOR NO KEY UPDATE OF d SKIP LOCKED
), entries AS MATERIALIZED (
    SELECT d.*, d.chain_length + 1 AS seq,
        CASE WHEN d.attempt >= $3::integer THEN 'attempts_exhausted' ELSE 'age_exceeded' END AS cause,
        GREATEST(d.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment
    FROM delivery d
), written AS MATERIALIZED (
    SELECT e.*, chain_entry(e.request_id, e.seq, 'dead_lettered', e.at,
        chain_actor('system', 'timeout-sweep', NULL),
        '"attempt":' || e.attempt || ',"cause":"' || e.cause || '"') AS entry
    FROM entries e
), linked AS MATERIALIZED (
    SELECT w.*, sha256(w.chain_head || w.entry) AS hash FROM written w
), requests AS (
    UPDATE hitl_requests r SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash
    FROM linked l WHERE r.request_id = l.request_id
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, 'dead_lettered', at, entry, chain_head, hash FROM linked
), set_aside AS (
    -- No open one is expected here. Where a release before has left one, it is this delivery's.
    INSERT INTO dead_letters AS x (
        dead_letter_id, kind, request_id, tenant_id, agent_id, cause, attempts, error_code, error_message, first_at,
        last_at
    )
    SELECT gen_random_uuid(), 'delivery', request_id, tenant_id, agent_id, cause, attempt, error_code, error_message,
        LEAST(visible_at, at), at
    FROM linked
    ON CONFLICT (request_id) WHERE kind = 'delivery' AND resolved_at IS NULL DO UPDATE
    SET cause = excluded.cause, attempts = excluded.attempts, error_code = excluded.error_code,
        error_message = excluded.error_message, last_at = excluded.last_at
    RETURNING x.request_id, x.dead_letter_id
), deliveries AS (
    UPDATE deliveries d SET state = 'dead_lettered', dead_letter_id = s.dead_letter_id
    FROM set_aside s WHERE d.request_id = s.request_id
)
INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
SELECT l.request_id, l.seq, 'dead_lettered', l.agent_id,
    handoff_event('dead_lettered', l.request_id, l.seq, l.at, l.agent_id, l.client_request_key,
        l.priority, l.action_digest, l.hash, h.outcome, h.cause, l.tenant_id),
    NULL, l.at, l.moment + interval '10 seconds'
FROM linked l JOIN hitl_decisions h USING (request_id)
RETURNING request_id AS "request_id: RequestId", seq, kind, agent_id AS "agent_id: AgentId", payload, traceparent
