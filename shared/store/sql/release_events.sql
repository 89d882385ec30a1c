/* relaytrace: release_events */
-- Gives claimed events back at once.
--
-- $3 now (null: the database's clock)
-- Arrays, one element for each event: $1 request_id, $2 seq
UPDATE outbox o SET claimed_until = at_or_now($3)
FROM UNNEST($1::uuid[], $2::integer[]) AS p (request_id, seq)
WHERE o.request_id = p.request_id AND o.seq = p.seq
