/* relaytrace: acknowledged_before */
-- What was said of the latest attempt, or of whichever there was.
--
-- $1 request_id, $2 delivery_id (null: whichever there is)
SELECT state AS "state: DeliveryState", attempt, result AS "result: AckResult"
FROM deliveries
WHERE request_id = $1 AND CASE WHEN $2::uuid IS NULL THEN state = 'acknowledged' ELSE delivery_id = $2 END
