/* relaytrace: claim_events */
-- Claims events that were not published in time, for the next 30 seconds. Who listens is told of them now, once: the stream
-- may refuse them for long.
--
-- $1 now (null: the database's clock), $2 at most so many, $3 nothing is left over before (null: not known)
WITH left_over AS (
    SELECT request_id, seq, told FROM outbox
    WHERE claimed_until >= COALESCE($3::timestamptz, '-infinity')
        AND claimed_until <= at_or_now($1)
    ORDER BY claimed_until LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
), claimed AS (
    UPDATE outbox o SET claimed_until = at_or_now($1) + interval '30 seconds', told = true
    FROM left_over l WHERE o.request_id = l.request_id AND o.seq = l.seq
    RETURNING o.request_id, o.seq, o.kind, o.agent_id, o.payload, o.traceparent, l.told
), queued AS (
    INSERT INTO events_to_tell (request_id, seq, kind, agent_id, queued_at)
    SELECT g.request_id, g.seq, g.kind, g.agent_id, at_or_now($1)
    FROM claimed g
    WHERE NOT g.told AND EXISTS (
        SELECT FROM listeners l
        WHERE l.removed_at IS NULL AND g.kind = ANY (l.event_kinds)
            AND l.tenant_id = (SELECT a.tenant_id FROM agents a WHERE a.agent_id = g.agent_id)
            AND COALESCE(l.agent_id, l.of_agent, g.agent_id) = g.agent_id
    )
    ON CONFLICT (request_id, seq) DO NOTHING
)
SELECT t.now AS "now!", (
        -- As it was before this statement, held by another or not: see floors.rs.
        SELECT f.claimed_until FROM outbox f
        WHERE f.claimed_until >= COALESCE($3, '-infinity') AND f.claimed_until <= at_or_now($1)
        ORDER BY f.claimed_until LIMIT 1
    ) AS first_left_over,
    c.request_id AS "request_id?: RequestId", c.seq AS "seq?", c.kind AS "kind?",
    c.agent_id AS "agent_id?: AgentId", c.payload AS "payload?", c.traceparent
FROM (SELECT at_or_now($1) AS now) t LEFT JOIN claimed c ON true
