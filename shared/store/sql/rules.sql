/* relaytrace: rules */
-- A version of a tenant's rules. $1 tenant_id, $2 version (null: the newest)
SELECT version, document, note, created_at, created_by, created_by_name
FROM rules WHERE tenant_id = $1 AND version = COALESCE($2::integer, version)
ORDER BY version DESC LIMIT 1
