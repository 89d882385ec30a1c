/* relaytrace: offboard_tenant */
-- Suspends a tenant and revokes the keys of its agents for good, the next of them. Its requests stay on record.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 to $5 kind, id and name of who does it, $6 why, $7 keys at the most
WITH tenant AS (
    SELECT tenant_id, status FROM tenants WHERE tenant_id = $2 FOR NO KEY UPDATE
), suspended AS (
    UPDATE tenants t SET status = 'suspended' FROM tenant g WHERE t.tenant_id = g.tenant_id
), alive AS (
    SELECT k.key_id
    FROM tenant g JOIN agents a ON a.tenant_id = g.tenant_id JOIN agent_keys k ON k.agent_id = a.agent_id
    WHERE k.revoked_at IS NULL
    ORDER BY k.key_id LIMIT $7::bigint
    FOR NO KEY UPDATE OF k
), revoked AS (
    UPDATE agent_keys k SET revoked_at = at_or_now($1) FROM alive l WHERE k.key_id = l.key_id
    RETURNING k.key_id
), counted AS (
    SELECT count(*) AS keys FROM revoked
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT g.tenant_id, at_or_now($1), $3::text, $4::text, $5::text, 'tenant.offboarded', g.tenant_id,
        jsonb_build_object('was', g.status, 'keys_revoked', c.keys, 'reason', $6::text)
    FROM tenant g CROSS JOIN counted c
    WHERE g.status = 'active' OR c.keys > 0
)
SELECT c.keys AS "keys!" FROM tenant g CROSS JOIN counted c
