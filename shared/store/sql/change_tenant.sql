/* relaytrace: change_tenant */
-- Suspends, opens again or limits a tenant. No row: there is none.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 status (null: stays), $4 whether submissions_per_minute changes, $5
-- what it becomes (null: no limit), $6 and $7 the same of max_agents, $8 to $10 kind, id and name of who does it, $11 why
-- (null: not said)
WITH before AS (
    -- Locked, so that the log says what it was.
    SELECT * FROM tenants WHERE tenant_id = $2 FOR NO KEY UPDATE
), changed AS (
    UPDATE tenants t
    SET status = COALESCE($3, t.status),
        submissions_per_minute = CASE WHEN $4::boolean THEN $5 ELSE t.submissions_per_minute END,
        max_agents = CASE WHEN $6::boolean THEN $7 ELSE t.max_agents END
    FROM before b WHERE t.tenant_id = b.tenant_id
    RETURNING t.*
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT c.tenant_id, at_or_now($1), $8::text, $9::text, $10::text, 'tenant.changed', c.tenant_id,
        jsonb_build_object('was', to_jsonb(b) - 'tenant_id' - 'created_at', 'became', to_jsonb(c) - 'tenant_id' - 'created_at')
        || CASE WHEN $11::text IS NULL THEN '{}' ELSE jsonb_build_object('reason', $11) END
    FROM before b JOIN changed c USING (tenant_id)
    WHERE to_jsonb(b) <> to_jsonb(c)
)
SELECT tenant_id AS "tenant_id!: TenantId", status AS "status!", submissions_per_minute, max_agents,
    created_at AS "created_at!"
FROM changed
