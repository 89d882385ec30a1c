/* relaytrace: tell_left_over */
-- Queues events that are still in the outbox while the stream is away, each once: people hear of a request without it.
--
-- $1 at most so many, $2 now (null: the database's clock)
WITH left_over AS (
    SELECT o.request_id, o.seq FROM outbox o
    WHERE NOT o.told AND EXISTS (SELECT FROM listeners)
    ORDER BY o.claimed_until LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
), marked AS (
    UPDATE outbox o SET told = true FROM left_over l
    WHERE o.request_id = l.request_id AND o.seq = l.seq
    RETURNING o.request_id, o.seq, o.kind, o.agent_id
), queued AS (
    INSERT INTO events_to_tell (request_id, seq, kind, agent_id, queued_at)
    SELECT m.request_id, m.seq, m.kind, m.agent_id, at_or_now($2)
    FROM marked m
    WHERE EXISTS (
        SELECT FROM listeners l
        WHERE l.removed_at IS NULL AND m.kind = ANY (l.event_kinds)
            AND l.tenant_id = (SELECT a.tenant_id FROM agents a WHERE a.agent_id = m.agent_id)
            AND COALESCE(l.agent_id, l.of_agent, m.agent_id) = m.agent_id
    )
    ON CONFLICT (request_id, seq) DO NOTHING
)
SELECT count(*) AS "count!" FROM marked
