/* relaytrace: deal_out */
-- Takes events off the queue and queues what each listener is told of them: all of an event, or nothing where another has
-- taken it.
--
-- $1 now (null: the database's clock)
-- Arrays, one element for each event: $2 request_id, $3 seq
-- Arrays, one element for each of what is told: $4 listener, $5 request_id, $6 seq, $7 notice
WITH taken AS (
    DELETE FROM events_to_tell q USING UNNEST($2::uuid[], $3::integer[]) AS p (request_id, seq)
    WHERE q.request_id = p.request_id AND q.seq = p.seq
    RETURNING q.request_id, q.seq, q.queued_at
)
INSERT INTO notifications (listener_id, request_id, seq, notice, queued_at, due_at)
SELECT p.listener_id, p.request_id, p.seq, p.notice, t.queued_at, at_or_now($1)
FROM UNNEST($4::uuid[], $5::uuid[], $6::integer[], $7::text[]) AS p (listener_id, request_id, seq, notice)
JOIN taken t ON t.request_id = p.request_id AND t.seq = p.seq
ORDER BY p.listener_id, p.request_id, p.seq
ON CONFLICT (listener_id, request_id, seq) DO NOTHING
