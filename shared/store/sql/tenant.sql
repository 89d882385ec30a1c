/* relaytrace: tenant */
-- One tenant.
--
-- $1 tenant_id
SELECT tenant_id AS "tenant_id: TenantId", status, submissions_per_minute, max_agents, created_at
FROM tenants WHERE tenant_id = $1
