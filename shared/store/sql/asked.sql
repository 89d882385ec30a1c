/* relaytrace: asked */
-- What a request asks, for an answer that is more than a yes or no: its envelope
-- (null: erased), and whether it can still be answered.
--
-- $1 now (null: the database's clock), $2 request_id, $3 tenant_id
SELECT r.action_type, e.envelope AS "envelope?", r.status = 'pending' AND at_or_clock($1) < r.respond_by AS "is_open!"
FROM hitl_requests r LEFT JOIN request_envelopes e USING (request_id)
WHERE r.request_id = $2 AND r.tenant_id = $3
