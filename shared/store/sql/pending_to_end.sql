/* relaytrace: pending_to_end */
-- Requests of a tenant or of one of its agents that are pending, the most urgent first.
--
-- $1 tenant_id, $2 agent_id (null: any), $3 at most so many
SELECT r.request_id AS "request_id: RequestId"
FROM hitl_requests r
WHERE r.status = 'pending' AND r.tenant_id = $1 AND ($2::text IS NULL OR r.agent_id = $2)
ORDER BY r.priority, r.respond_by, r.request_id LIMIT $3
