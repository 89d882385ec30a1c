/* relaytrace: add_tenant */
-- Adds a tenant.
--
-- $1 tenant_id
INSERT INTO tenants (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING
