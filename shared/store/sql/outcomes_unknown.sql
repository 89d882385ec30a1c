/* relaytrace: outcomes_unknown */
-- Says of permits that were used, and of whose use nothing was reported in time, that the outcome is unknown. A report that
-- comes first keeps its row from this; one that comes later replaces it.
--
-- $1 now (null: the database's clock), $2 at most so many, $3 only this request (null: any)
WITH target AS (
    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority,
        COALESCE(r.approved_digest, r.action_digest) AS action_digest, r.changed_at, r.chain_length, r.chain_head, h.outcome, h.cause
    FROM outcomes_due o
    JOIN hitl_requests r ON r.request_id = o.request_id
    JOIN hitl_decisions h ON h.request_id = r.request_id
    WHERE o.due_at <= at_or_now($1) AND o.unknown_at IS NULL AND r.execution = 'consumed'
        AND ($3::uuid IS NULL OR o.request_id = $3)
        AND NOT EXISTS (
            SELECT FROM sweep_failures f WHERE f.part = 'outcome' AND f.request_id = o.request_id
                AND f.retry_at > at_or_now($1)
        )
    ORDER BY o.due_at LIMIT $2
    FOR NO KEY UPDATE OF r SKIP LOCKED
), timed AS MATERIALIZED (
    SELECT t.*, t.chain_length + 1 AS seq,
        GREATEST(t.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment
    FROM target t
), entries AS MATERIALIZED (
    SELECT t.*, chain_entry(t.request_id, t.seq, 'outcome', t.at, chain_actor('system', 'timeout-sweep', NULL),
        '"state":"unknown","note":null,"evidence_sha256":null') AS entry
    FROM timed t
), linked AS MATERIALIZED (
    SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
), requests AS (
    UPDATE hitl_requests r
    SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash, execution = 'unknown'
    FROM linked l WHERE r.request_id = l.request_id
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, 'outcome', at, entry, chain_head, hash FROM linked
), listed AS (
    -- For administrators to look at, for a week.
    UPDATE outcomes_due d SET unknown_at = l.at, due_at = l.at + interval '7 days'
    FROM linked l WHERE d.request_id = l.request_id
), forgotten AS (
    DELETE FROM outcomes_due d USING (
        SELECT o.request_id FROM outcomes_due o
        WHERE o.due_at <= at_or_now($1) AND o.unknown_at IS NOT NULL ORDER BY o.due_at LIMIT $2
    ) o WHERE d.request_id = o.request_id AND d.unknown_at IS NOT NULL
)
INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
SELECT request_id, seq, 'outcome', agent_id,
    handoff_event('outcome', request_id, seq, at, agent_id, client_request_key, priority, action_digest, hash,
        outcome, cause, tenant_id),
    NULL, at, moment + interval '10 seconds'
FROM linked
RETURNING request_id AS "request_id: RequestId", seq, kind, agent_id AS "agent_id: AgentId", payload, traceparent
