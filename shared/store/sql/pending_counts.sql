/* relaytrace: pending_counts */
-- How much is pending of each priority, counted up to $1: the work does not grow with the table.
-- $2 tenant
SELECT
    (SELECT count(*) FROM (
        SELECT FROM hitl_requests WHERE status = 'pending' AND tenant_id = $2 AND priority = 1
        ORDER BY respond_by, request_id LIMIT $1::bigint) r) AS "p1!",
    (SELECT count(*) FROM (
        SELECT FROM hitl_requests WHERE status = 'pending' AND tenant_id = $2 AND priority = 2
        ORDER BY respond_by, request_id LIMIT $1) r) AS "p2!",
    (SELECT count(*) FROM (
        SELECT FROM hitl_requests WHERE status = 'pending' AND tenant_id = $2 AND priority = 3
        ORDER BY respond_by, request_id LIMIT $1) r) AS "p3!"
