/* relaytrace: acknowledge */
-- Records what agents say of the latest attempt of a delivery. `accepted` also wins over an earlier `retry` or
-- `failed` of that attempt. A row that is not returned changed nothing; a second statement finds out why.
--
-- $1 now (null: the database's clock), $10 after so many attempts a retry is exhausted,
-- $11 longest pause after a retry, in seconds
-- Arrays, one element for each acknowledgement: $2 request_id, $3 delivery_id (null: whichever there is), $4 agent_id, $5 key_id, $6 result,
-- $7 error_code, $8 error_message, $9 traceparent (these three: null is none)
WITH input AS (
    SELECT * FROM UNNEST(
        $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]
    ) AS i (request_id, delivery_id, agent_id, key_id, result, error_code, error_message, traceparent)
), request AS (
    -- Request before delivery, as everywhere.
    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority,
        COALESCE(r.approved_digest, r.action_digest) AS action_digest, r.changed_at, r.chain_length, r.chain_head,
        CASE WHEN r.consume_required AND r.execution IS NULL THEN r.permit_expires_at END AS to_be_consumed_until
    FROM hitl_requests r
    JOIN input i ON i.request_id = r.request_id AND i.agent_id = r.agent_id
    JOIN active_keys k ON k.key_id = i.key_id AND k.agent_id = i.agent_id
    -- What was used has arrived.
    WHERE r.execution IS NULL OR i.result = 'accepted'
    ORDER BY r.request_id
    FOR NO KEY UPDATE OF r
), delivery AS (
    SELECT r.*, i.key_id, i.result, i.error_code, i.error_message, i.traceparent,
        d.attempt, d.state AS old_state, d.visible_at AS first_at, d.dead_letter_id
    FROM request r
    JOIN input i USING (request_id)
    JOIN deliveries d ON d.request_id = r.request_id
        AND CASE WHEN i.delivery_id IS NULL
            -- Only accepted comes without: it ends whichever delivery there is.
            THEN i.result = 'accepted' AND d.state <> 'acknowledged'
            -- Said once; but accepted wins over the retry or failed of the same delivery. It is no answer to a delivery
            -- that was accepted and replayed since.
            ELSE d.delivery_id = i.delivery_id
                AND (d.result IS NULL OR (i.result = 'accepted' AND d.result <> 'accepted'))
        END
    FOR NO KEY UPDATE OF d
), judged AS MATERIALIZED (
    SELECT d.*, GREATEST(d.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment,
        CASE
            WHEN d.result = 'accepted' THEN 'acknowledged'
            WHEN d.result = 'failed' OR d.attempt >= $10::integer OR d.old_state = 'dead_lettered'
                THEN 'dead_lettered'
            ELSE 'ready'
        END AS new_state,
        CASE WHEN d.result = 'failed' THEN 'agent_failed' ELSE 'attempts_exhausted' END AS cause
    FROM delivery d
    -- A usable approval that must be consumed is not accepted before it is.
    WHERE d.to_be_consumed_until IS NULL OR d.result <> 'accepted' OR d.to_be_consumed_until <= at_or_clock($1)
        OR EXISTS (
            SELECT FROM hitl_requests r
            JOIN hitl_decisions h USING (request_id)
            JOIN freezes f ON f.tenant_id = r.tenant_id AND f.ends_at > h.decided_at AND f.mode = 'stop'
                AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
                AND (f.action_type IS NULL OR f.action_type = r.action_type)
            WHERE r.request_id = d.request_id
        )
), entries AS MATERIALIZED (
    -- Only what ends the delivery, one way or the other, is an entry.
    SELECT j.*, j.chain_length + 1 AS seq,
        chain_entry(j.request_id, j.chain_length + 1, j.new_state, j.at, chain_actor('agent', j.agent_id, NULL),
            '"attempt":' || j.attempt || CASE WHEN j.new_state = 'dead_lettered'
                THEN ',"cause":"' || j.cause || '"' ELSE '' END
            || ',"key_id":"' || j.key_id || '"') AS entry
    FROM judged j
    WHERE j.new_state IN ('acknowledged', 'dead_lettered') AND j.new_state <> j.old_state
), linked AS MATERIALIZED (
    SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
), requests AS (
    UPDATE hitl_requests r SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash
    FROM linked l WHERE r.request_id = l.request_id
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, new_state, at, entry, chain_head, hash FROM linked
), set_aside AS (
    -- No open one is expected here. Where a release before has left one, it is this delivery's.
    INSERT INTO dead_letters AS x (
        dead_letter_id, kind, request_id, tenant_id, agent_id, cause, attempts, error_code, error_message, first_at,
        last_at
    )
    SELECT gen_random_uuid(), 'delivery', request_id, tenant_id, agent_id, cause, attempt, error_code, error_message,
        LEAST(first_at, at), at
    FROM linked WHERE new_state = 'dead_lettered'
    ON CONFLICT (request_id) WHERE kind = 'delivery' AND resolved_at IS NULL DO UPDATE
    SET cause = excluded.cause, attempts = excluded.attempts, error_code = excluded.error_code,
        error_message = excluded.error_message, last_at = excluded.last_at
    RETURNING x.request_id, x.dead_letter_id
), acked AS (
    UPDATE deliveries d
    SET state = j.new_state, result = j.result, error_code = j.error_code, error_message = j.error_message,
        dead_letter_id = CASE j.new_state
            -- Only a delivery that is one has a dead letter, or one that names it.
            WHEN 'acknowledged' THEN CASE WHEN j.old_state = 'dead_lettered' OR j.dead_letter_id IS NOT NULL
                THEN without_dead_letter(j.request_id, j.at, 'acknowledged', j.agent_id, NULL) END
            WHEN 'dead_lettered' THEN COALESCE(s.dead_letter_id, j.dead_letter_id)
            ELSE j.dead_letter_id
        END,
        visible_at = CASE WHEN j.new_state = 'ready'
            THEN j.moment + make_interval(
                secs => random() * LEAST($11::double precision, 2.0 ^ LEAST(j.attempt - 1, 20))
            )
            ELSE d.visible_at END
    FROM judged j LEFT JOIN set_aside s USING (request_id)
    WHERE d.request_id = j.request_id
    RETURNING d.request_id
), announced AS (
    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
    SELECT l.request_id, l.seq, l.new_state, l.agent_id,
        handoff_event(l.new_state, l.request_id, l.seq, l.at, l.agent_id, l.client_request_key, l.priority,
            l.action_digest, l.hash, h.outcome, h.cause, l.tenant_id),
        l.traceparent, l.at, l.moment + interval '10 seconds'
    FROM linked l JOIN hitl_decisions h USING (request_id)
    RETURNING request_id, seq, kind, payload
)
SELECT j.request_id AS "request_id!: RequestId", j.new_state AS "state!: DeliveryState", j.attempt AS "attempt!",
    e.seq AS "seq?", e.kind AS "kind?", e.payload AS "payload?"
FROM judged j JOIN acked USING (request_id) LEFT JOIN announced e USING (request_id)
