/* relaytrace: acknowledge */
-- Records what agents say of the latest attempt of a delivery. `accepted` also wins over an earlier `retry` or
-- `failed` of that attempt. A row that is not returned changed nothing; a second statement finds out why.
--
-- $1 now (null: the database's clock), $10 after so many attempts a retry is exhausted,
-- $11 longest pause after a retry, in seconds
-- Arrays, one element for each acknowledgement, in the order of $2, in which the requests are locked: $2 request_id,
-- $3 delivery_id (null: whichever there is), $4 agent_id, $5 key_id, $6 result, $7 error_code,
-- $8 error_message, $9 traceparent (these three: null is none)
WITH judged AS MATERIALIZED (
    -- One subquery within the other, as in decide.sql.
    SELECT n.*, CASE WHEN n.entry IS NOT NULL THEN handoff_event(n.new_state, n.request_id, n.seq, n.at, n.agent_id,
        n.client_request_key, n.priority, n.action_digest, n.hash, n.outcome, n.decision_cause, n.tenant_id) END AS payload
    FROM (
        SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM (
            SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.chain_head,
                r.chain_length + 1 AS seq, GREATEST(r.changed_at, d.moment) AS at, d.moment, d.attempt, d.old_state,
                d.new_state, d.cause, d.first_at, d.dead_letter_id, i.result, i.error_code, i.error_message, i.traceparent,
                d.outcome, d.decision_cause,
                -- Only what ends the delivery, one way or the other, is an entry.
                CASE WHEN d.new_state <> 'ready' AND d.new_state <> d.old_state THEN
                    chain_entry(r.request_id, r.chain_length + 1, d.new_state, GREATEST(r.changed_at, d.moment),
                        chain_actor('agent', r.agent_id, NULL),
                        format('"attempt":%s%s,"key_id":"%s"', d.attempt,
                            CASE WHEN d.new_state = 'dead_lettered' THEN ',"cause":"' || d.cause || '"' END, i.key_id))
                END AS entry
            FROM (
                SELECT UNNEST($2::uuid[]) AS request_id, UNNEST($3::uuid[]) AS delivery_id, UNNEST($4::text[]) AS agent_id,
                    UNNEST($5::text[]) AS key_id, UNNEST($6::text[]) AS result, UNNEST($7::text[]) AS error_code,
                    UNNEST($8::text[]) AS error_message, UNNEST($9::text[]) AS traceparent
            ) i
            -- Request before delivery, as everywhere; one after the other, in the order of the arrays.
            CROSS JOIN LATERAL (
                SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority,
                    COALESCE(r.approved_digest, r.action_digest) AS action_digest, r.changed_at, r.chain_length,
                    r.chain_head, CASE WHEN r.consume_required AND r.execution IS NULL
                        THEN r.permit_expires_at END AS to_be_consumed_until
                FROM hitl_requests r JOIN active_keys k ON k.key_id = i.key_id AND k.agent_id = i.agent_id
                WHERE r.request_id = i.request_id AND r.agent_id = i.agent_id
                    -- What was used has arrived.
                    AND (r.execution IS NULL OR i.result = 'accepted')
                OFFSET 0
                FOR NO KEY UPDATE OF r
            ) r
            CROSS JOIN LATERAL (
                SELECT d.*, at_or_clock($1) AS moment,
                    CASE
                        WHEN i.result = 'accepted' THEN 'acknowledged'
                        WHEN i.result = 'failed' OR d.attempt >= $10::integer OR d.old_state = 'dead_lettered'
                            THEN 'dead_lettered'
                        ELSE 'ready'
                    END AS new_state,
                    CASE WHEN i.result = 'failed' THEN 'agent_failed' ELSE 'attempts_exhausted' END AS cause
                FROM (
                    SELECT d.attempt, d.state AS old_state, d.visible_at AS first_at, d.dead_letter_id, h.outcome,
                        h.cause AS decision_cause
                    FROM deliveries d JOIN hitl_decisions h ON h.request_id = d.request_id
                    WHERE d.request_id = r.request_id AND CASE WHEN i.delivery_id IS NULL
                        -- Only accepted comes without: it ends whichever delivery there is.
                        THEN i.result = 'accepted' AND d.state <> 'acknowledged'
                        -- Said once; but accepted wins over the retry or failed of the same delivery. It is no answer to a
                        -- delivery that was accepted and replayed since.
                        ELSE d.delivery_id = i.delivery_id
                            AND (d.result IS NULL OR (i.result = 'accepted' AND d.result <> 'accepted'))
                    END
                    OFFSET 0
                    FOR NO KEY UPDATE OF d
                ) d
            ) d
            -- A usable approval that must be consumed is not accepted before it is.
            WHERE r.to_be_consumed_until IS NULL OR i.result <> 'accepted' OR r.to_be_consumed_until <= d.moment
                OR was_stopped(r.request_id)
            OFFSET 0
        ) e
        OFFSET 0
    ) n
), requests AS (
    UPDATE hitl_requests r SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash
    -- Not all of judged: Postgres keeps a copy of the whole row that it joins.
    FROM (SELECT request_id, at, seq, hash FROM judged WHERE entry IS NOT NULL OFFSET 0) l
    WHERE r.request_id = l.request_id
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, new_state, at, entry, chain_head, hash FROM judged WHERE entry IS NOT NULL
), acked AS (
    UPDATE deliveries d
    SET state = j.new_state, result = j.result, error_code = j.error_code, error_message = j.error_message,
        dead_letter_id = CASE
            -- Only a delivery that is one has a dead letter, or one that names it.
            WHEN j.new_state = 'acknowledged'
                THEN CASE WHEN j.old_state = 'dead_lettered' OR j.dead_letter_id IS NOT NULL
                    THEN without_dead_letter(j.request_id, j.at, 'acknowledged', j.agent_id, NULL) END
            WHEN j.new_state = 'dead_lettered' AND j.old_state <> 'dead_lettered'
                THEN set_aside(j.request_id, j.tenant_id, j.agent_id, j.cause, j.attempt, j.error_code, j.error_message,
                    j.first_at, j.at)
            ELSE j.dead_letter_id
        END,
        visible_at = CASE WHEN j.new_state = 'ready'
            THEN j.moment + make_interval(
                secs => random() * LEAST($11::double precision, 2.0 ^ LEAST(j.attempt - 1, 20))
            )
            ELSE d.visible_at END
    FROM (
        SELECT request_id, tenant_id, agent_id, attempt, old_state, new_state, dead_letter_id, cause, result, error_code,
            error_message, first_at, at, moment
        FROM judged OFFSET 0
    ) j
    WHERE d.request_id = j.request_id
), announced AS (
    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
    SELECT request_id, seq, new_state, agent_id, payload, traceparent, at, moment + interval '10 seconds'
    FROM judged WHERE entry IS NOT NULL
)
SELECT request_id AS "request_id!: RequestId", new_state AS "state!: DeliveryState", attempt AS "attempt!",
    CASE WHEN entry IS NOT NULL THEN seq END AS "seq?", CASE WHEN entry IS NOT NULL THEN new_state END AS "kind?",
    payload AS "payload?"
FROM judged
