/* relaytrace: release_leases */
-- Takes back leases whose poll hung up before it had them: due at once, as if they had not been tried. Only the lease
-- that is named is taken back, so a delivery that was leased again since stays as it is.
-- $1 now, or null; $2 requests; $3 the leases' delivery ids, in the same order
WITH taken AS (
    SELECT d.request_id, d.attempt
    FROM UNNEST($2::uuid[], $3::uuid[]) AS p (request_id, delivery_id)
    JOIN deliveries d ON d.request_id = p.request_id AND d.delivery_id = p.delivery_id AND d.state = 'leased'
    ORDER BY d.request_id
    FOR NO KEY UPDATE OF d
)
UPDATE deliveries d
SET state = 'ready', attempt = t.attempt - 1, delivery_id = NULL, lease_expires_at = NULL,
    visible_at = at_or_now($1)
FROM taken t
WHERE d.request_id = t.request_id
RETURNING d.request_id
