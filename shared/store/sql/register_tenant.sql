/* relaytrace: register_tenant */
-- Makes a tenant. No row: it is there.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 submissions_per_minute and $4 max_agents (null: no limit), $5 to $7
-- kind, id and name of who does it
WITH registered AS (
    INSERT INTO tenants (tenant_id, submissions_per_minute, max_agents, created_at)
    VALUES ($2, $3, $4, at_or_now($1)) ON CONFLICT (tenant_id) DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT tenant_id, created_at, $5::text, $6::text, $7::text, 'tenant.registered', tenant_id,
        jsonb_build_object('limits', jsonb_build_object(
            'submissions_per_minute', submissions_per_minute, 'agents', max_agents
        ))
    FROM registered
)
SELECT tenant_id AS "tenant_id: TenantId", status, submissions_per_minute, max_agents, created_at FROM registered
