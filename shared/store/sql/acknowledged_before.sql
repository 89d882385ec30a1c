/* relaytrace: acknowledged_before */
-- What was said of the latest attempt, or of whichever there was. What was used has arrived, whichever attempt it was.
--
-- $1 request_id, $2 delivery_id (null: whichever there is)
SELECT d.state AS "state: DeliveryState", d.attempt, d.result AS "result: AckResult",
    r.execution IS NOT NULL AS "is_consumed!",
    r.consume_required IS TRUE AND r.execution IS NULL AND r.permit_expires_at IS NOT NULL AS "is_to_be_consumed!"
FROM deliveries d JOIN hitl_requests r USING (request_id)
WHERE d.request_id = $1
    AND CASE
        WHEN r.execution IS NOT NULL THEN true
        WHEN $2::uuid IS NULL THEN d.state = 'acknowledged' OR r.consume_required
        ELSE d.delivery_id = $2
    END
