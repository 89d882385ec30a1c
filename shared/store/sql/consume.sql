/* relaytrace: consume */
-- Uses permits, each once, for the action that was approved, and ends their deliveries. A row that is not returned was not
-- used; a second statement finds out why.
--
-- $1 now (null: the database's clock), $2 after so many seconds without an outcome it is unknown
-- Arrays, one element for each use: $3 request_id, $4 agent_id, $5 key_id, $6 consume_key, $7 action_digest,
-- $8 traceparent (null: none), $9 whether by the scope execute-any, $10 whether the digest is assumed: the caller's protocol
-- has none
WITH request AS (
    -- Request before delivery, as everywhere. What says whether the permit was used is in the locked row.
    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority, r.action_type, r.action_digest,
        r.changed_at, r.chain_length, r.chain_head, r.permit_expires_at, i.caller_id, i.key_id, i.consume_key,
        i.action_digest AS consumed_digest, i.traceparent, i.is_assumed, h.decided_at, h.outcome, h.cause
    FROM hitl_requests r
    JOIN UNNEST($3::uuid[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[], $9::boolean[], $10::boolean[])
        AS i (request_id, caller_id, key_id, consume_key, action_digest, traceparent, is_any, is_assumed)
        ON i.request_id = r.request_id
    JOIN active_keys k ON k.key_id = i.key_id AND k.agent_id = i.caller_id
    JOIN hitl_decisions h ON h.request_id = r.request_id
    WHERE may_execute(i.is_any, k.agent_id, k.tenant_id, k.execute_agents, k.execute_action_types, r.agent_id,
            r.tenant_id, r.action_type)
        AND r.permit_expires_at IS NOT NULL AND r.execution IS NULL
        AND digest_text(i.action_digest) = CASE WHEN h.edited THEN (
            SELECT convert_from(c.entry, 'UTF8')::json ->> 'action_digest' FROM approval_chain c
            WHERE c.request_id = h.request_id AND c.seq = h.chain_seq
        ) ELSE digest_text(r.action_digest) END
    ORDER BY r.request_id
    FOR NO KEY UPDATE OF r
), timed AS MATERIALIZED (
    SELECT r.*, GREATEST(r.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment FROM request r
), usable AS MATERIALIZED (
    SELECT t.* FROM timed t
    WHERE t.moment < t.permit_expires_at
        -- A stop revokes what was decided before its end, a hold lasts until its own.
        AND NOT EXISTS (
            SELECT FROM freezes f
            WHERE f.tenant_id = t.tenant_id AND f.ends_at > t.decided_at
                AND (f.mode = 'stop' OR f.ends_at > t.moment)
                AND (f.agent_id IS NULL OR f.agent_id = t.agent_id)
                AND (f.action_type IS NULL OR f.action_type = t.action_type)
        )
), delivery AS (
    SELECT u.*, d.attempt, d.state AS old_state, d.visible_at AS first_at, d.dead_letter_id
    FROM usable u JOIN deliveries d ON d.request_id = u.request_id
    FOR NO KEY UPDATE OF d
), entries AS MATERIALIZED (
    SELECT d.*, d.chain_length + 1 AS seq,
        chain_entry(d.request_id, d.chain_length + 1, 'consumed', d.at, chain_actor('agent', d.caller_id, NULL),
            '"action_digest":"' || digest_text(d.consumed_digest) || '","consume_key":"' || d.consume_key
            || '","key_id":"' || d.key_id || '"' || CASE WHEN d.is_assumed THEN ',"digest":"assumed"' ELSE '' END) AS entry
    FROM delivery d
), linked AS MATERIALIZED (
    SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
), requests AS (
    UPDATE hitl_requests r
    SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash, execution = 'consumed', consumed_at = l.at,
        consumed_by = l.key_id, consume_key = l.consume_key
    FROM linked l WHERE r.request_id = l.request_id
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, 'consumed', at, entry, chain_head, hash FROM linked
), due AS (
    INSERT INTO outcomes_due (request_id, due_at)
    SELECT request_id, at + make_interval(secs => $2::double precision) FROM linked
), ended AS (
    UPDATE deliveries d
    SET state = 'acknowledged', result = 'accepted', error_code = NULL, error_message = NULL,
        dead_letter_id = CASE WHEN l.old_state = 'dead_lettered' OR l.dead_letter_id IS NOT NULL
            THEN without_dead_letter(l.request_id, l.at, 'acknowledged', l.caller_id, NULL) END
    FROM linked l WHERE d.request_id = l.request_id AND l.old_state <> 'acknowledged'
), announced AS (
    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
    SELECT request_id, seq, 'consumed', agent_id,
        handoff_event('consumed', request_id, seq, at, agent_id, client_request_key, priority, consumed_digest, hash,
            outcome, cause, tenant_id),
        traceparent, at, moment + interval '10 seconds'
    FROM linked
    RETURNING request_id, payload
)
SELECT l.request_id AS "request_id!: RequestId", l.agent_id AS "agent_id!: AgentId", l.at AS "at!", l.seq AS "seq!",
    a.payload AS "payload!"
FROM linked l JOIN announced a USING (request_id)
