/* relaytrace: change_agent */
-- Changes an agent. Its caps count from then on.
--
-- $1 agent_id, $2 name (null: stays), $3 status (null: stays), $4 whether max_pending changes, $5 max_pending (null: no
-- cap), $6 and $7 the same of max_pending_p1, $8 tenant_id, $9 now (null: the database's clock), $10 to $12 kind, id and
-- name of who does it, $13 default_priority (null: stays)
WITH tenant AS (
    -- Agents of one tenant are enabled one after the other, as they are registered.
    SELECT tenant_id, max_agents FROM tenants WHERE tenant_id = $8 AND $3 = 'active' FOR NO KEY UPDATE
), before AS (
    -- Locked, so that the log says what it was.
    SELECT a.agent_id, a.name, a.status, a.tenant_id
    FROM agents a
    WHERE a.agent_id = $1 AND a.tenant_id = $8
        -- One that is enabled has room in its tenant.
        AND ($3 IS DISTINCT FROM 'active' OR a.status = 'active' OR (
            SELECT t.max_agents IS NULL OR tenant_has_room(t.tenant_id, t.max_agents) FROM tenant t
        ))
    FOR NO KEY UPDATE OF a
), changed AS (
    UPDATE agents a SET name = COALESCE($2, a.name), status = COALESCE($3, a.status),
        default_priority = COALESCE($13::smallint, a.default_priority)
    FROM before b WHERE a.agent_id = b.agent_id
    RETURNING a.agent_id, a.name, a.status
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT b.tenant_id, at_or_now($9), $10::text, $11::text, $12::text, 'agent.changed', b.agent_id,
        jsonb_build_object(
            'was', jsonb_build_object('name', b.name, 'status', b.status),
            'became', jsonb_build_object('name', c.name, 'status', c.status)
        )
        || CASE WHEN $4::boolean THEN jsonb_build_object('max_pending', $5::integer) ELSE '{}' END
        || CASE WHEN $6::boolean THEN jsonb_build_object('max_pending_p1', $7::integer) ELSE '{}' END
        || CASE WHEN $13 IS NOT NULL THEN jsonb_build_object('default_priority', 'P' || $13) ELSE '{}' END
    FROM before b JOIN changed c USING (agent_id)
    WHERE (b.name, b.status) IS DISTINCT FROM (c.name, c.status) OR $4 OR $6 OR $13 IS NOT NULL
)
INSERT INTO agent_caps AS c (agent_id, max_pending, max_pending_p1)
SELECT agent_id, $5, $7 FROM changed
ON CONFLICT (agent_id) DO UPDATE
SET max_pending = CASE WHEN $4 THEN excluded.max_pending ELSE c.max_pending END,
    max_pending_p1 = CASE WHEN $6 THEN excluded.max_pending_p1 ELSE c.max_pending_p1 END
