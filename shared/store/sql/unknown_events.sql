/* relaytrace: unknown_events */
-- Which of these events tell of entries that are later than everything here, and are not here: then this database is an
-- older copy of what they tell. What a declared restore has lost is left out.
--
-- Arrays, one element for each event: $1 request_id, $2 seq, $3 time
SELECT i.request_id AS "request_id!: RequestId", i.seq AS "seq!"
FROM UNNEST($1::uuid[], $2::integer[], $3::timestamptz[]) AS i (request_id, seq, at)
WHERE i.at > (SELECT max(a.at) FROM approval_chain a)
    AND i.at > COALESCE((SELECT max(e.declared_at) FROM epochs e), '-infinity')
    AND NOT EXISTS (SELECT FROM approval_chain c WHERE c.request_id = i.request_id AND c.seq = i.seq)
