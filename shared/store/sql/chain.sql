/* relaytrace: chain */
-- A chain with the envelope that its first entry names, where it was not erased.
--
-- $1 request_id, $2 tenant_id
SELECT e.envelope AS "envelope?", r.chain_length, r.chain_head, c.seq, c.entry, c.prev_hash, c.hash
FROM hitl_requests r
LEFT JOIN request_envelopes e USING (request_id)
JOIN approval_chain c USING (request_id)
WHERE r.request_id = $1 AND r.tenant_id = $2 ORDER BY c.seq
