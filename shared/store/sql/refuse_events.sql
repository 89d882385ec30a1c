/* relaytrace: refuse_events */
-- Notes what the stream has refused.
--
-- $1 now (null: the database's clock), $6 refusals that make a dead letter, $7 pause after a refusal, in seconds
-- Arrays, one element for each event: $2 request_id, $3 seq, $4 error, $5 whether the stream will never take it
WITH refused AS (
    SELECT o.request_id, o.seq, p.error, p.is_final OR o.refusals + 1 >= $6::integer AS is_final
    FROM UNNEST($2::uuid[], $3::integer[], $4::text[], $5::boolean[])
        AS p (request_id, seq, error, is_final)
    JOIN outbox o ON o.request_id = p.request_id AND o.seq = p.seq
    ORDER BY o.request_id, o.seq
    FOR NO KEY UPDATE OF o
), delayed AS (
    UPDATE outbox o
    SET refusals = o.refusals + 1,
        claimed_until = at_or_now($1) + (o.refusals + 1) * make_interval(secs => $7::double precision)
    FROM refused r WHERE o.request_id = r.request_id AND o.seq = r.seq AND NOT r.is_final
), removed AS (
    DELETE FROM outbox o USING refused r
    WHERE o.request_id = r.request_id AND o.seq = r.seq AND r.is_final
    RETURNING o.request_id, o.seq, o.kind, o.agent_id, o.payload, o.created_at, o.refusals, r.error, o.told
), queued AS (
    -- Who listens hears of it all the same.
    INSERT INTO events_to_tell (request_id, seq, kind, agent_id, queued_at)
    SELECT g.request_id, g.seq, g.kind, g.agent_id, at_or_now($1)
    FROM removed g
    WHERE NOT g.told AND EXISTS (
        SELECT FROM listeners l
        WHERE l.removed_at IS NULL AND g.kind = ANY (l.event_kinds)
            AND l.tenant_id = (SELECT a.tenant_id FROM agents a WHERE a.agent_id = g.agent_id)
            AND COALESCE(l.agent_id, l.of_agent, g.agent_id) = g.agent_id
    )
    ON CONFLICT (request_id, seq) DO NOTHING
)
INSERT INTO dead_letters (dead_letter_id, kind, request_id, tenant_id, agent_id, cause, attempts, error_message,
    first_at, last_at, event_seq, event_kind, event_payload)
SELECT gen_random_uuid(), 'event', d.request_id, COALESCE(r.tenant_id, 'default'), d.agent_id, 'unpublishable',
    d.refusals + 1, d.error, d.created_at, GREATEST(d.created_at, at_or_now($1)), d.seq, d.kind, d.payload
FROM removed d LEFT JOIN hitl_requests r USING (request_id)
