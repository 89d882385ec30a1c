/* relaytrace: forget_events */
-- Deletes events that the stream has acknowledged, and queues those that a channel or an agent's push is told after. Where
-- nobody listens, one look at an empty table.
--
-- Arrays, one element for each event: $1 request_id, $2 seq; $3 now (null: the database's clock)
WITH gone AS (
    DELETE FROM outbox o USING UNNEST($1::uuid[], $2::integer[]) AS p (request_id, seq)
    WHERE o.request_id = p.request_id AND o.seq = p.seq
    RETURNING o.request_id, o.seq, o.kind, o.agent_id, o.told
)
INSERT INTO events_to_tell (request_id, seq, kind, agent_id, queued_at)
SELECT g.request_id, g.seq, g.kind, g.agent_id, at_or_now($3)
FROM gone g
WHERE NOT g.told
    -- Not correlated: asked once for all of them.
    AND EXISTS (SELECT FROM listeners)
    AND EXISTS (
        SELECT FROM listeners l
        WHERE l.removed_at IS NULL AND g.kind = ANY (l.event_kinds)
            AND l.tenant_id = (SELECT a.tenant_id FROM agents a WHERE a.agent_id = g.agent_id)
            AND COALESCE(l.agent_id, l.of_agent, g.agent_id) = g.agent_id
    )
ON CONFLICT (request_id, seq) DO NOTHING
