/* relaytrace: bridged */
-- What a bridge tells of a request of its protocol beside the decision. No row: the key or agent is not active, or the
-- agent has no such request.
--
-- $1 key_id, $2 agent_id, $3 request_id, $4 protocol
SELECT s.entry AS "submitted!", e.envelope AS "envelope?", v.state AS "delivery_state?: DeliveryState", r.consumed_at,
    o.entry AS "outcome?"
FROM active_keys k
JOIN hitl_requests r ON r.request_id = $3 AND r.agent_id = k.agent_id AND r.protocol = $4
JOIN approval_chain s ON s.request_id = r.request_id AND s.seq = 1
LEFT JOIN request_envelopes e ON e.request_id = r.request_id
LEFT JOIN deliveries v ON v.request_id = r.request_id
LEFT JOIN LATERAL (
    SELECT c.entry FROM approval_chain c
    WHERE c.request_id = r.request_id AND c.kind = 'outcome' ORDER BY c.seq DESC LIMIT 1
) o ON r.consumed_at IS NOT NULL
WHERE k.key_id = $1 AND k.agent_id = $2
