/* relaytrace: tenant_standing */
-- Whether the tokens of a tenant are accepted, and its limit of submissions. No row: there is no such tenant.
--
-- $1 tenant_id
SELECT status = 'active' AS "is_active!", submissions_per_minute FROM tenants WHERE tenant_id = $1
