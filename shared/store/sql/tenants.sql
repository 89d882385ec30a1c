/* relaytrace: tenants */
-- Tenants in the order of their ids.
--
-- $1 after this id, $2 at most so many
SELECT tenant_id AS "tenant_id: TenantId", status, submissions_per_minute, max_agents, created_at
FROM tenants WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2
