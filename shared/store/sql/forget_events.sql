/* relaytrace: forget_events */
-- Deletes events that the stream has acknowledged.
--
-- Arrays, one element for each event: $1 request_id, $2 seq
DELETE FROM outbox o USING UNNEST($1::uuid[], $2::integer[]) AS p (request_id, seq)
WHERE o.request_id = p.request_id AND o.seq = p.seq
