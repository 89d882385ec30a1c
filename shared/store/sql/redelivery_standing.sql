/* relaytrace: redelivery_standing */
-- How a request stands whose delivery was not sent out again.
--
-- $1 request_id, $2 tenant_id, $3 the administrator, $4 reason
SELECT r.status AS "status: Status", d.state AS "state?: DeliveryState",
    (d.replayed_seq, d.replayed_by, d.replay_reason) IS NOT DISTINCT FROM (r.chain_length, $3::text, $4::text)
        AS "is_repeated!"
FROM hitl_requests r LEFT JOIN deliveries d USING (request_id) WHERE r.request_id = $1 AND r.tenant_id = $2
