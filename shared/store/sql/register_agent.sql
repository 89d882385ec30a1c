/* relaytrace: register_agent */
-- Registers an agent and the counter of its caps. Agents of one tenant are registered one after the other, so that no two
-- take its last place.
--
-- $1 agent_id, $2 name, $3 tenant_id, $4 now (null: the database's clock), $5 to $7 kind, id and name of who does it
WITH tenant AS (
    SELECT tenant_id, max_agents FROM tenants WHERE tenant_id = $3 FOR NO KEY UPDATE
), registered AS (
    INSERT INTO agents (agent_id, name, tenant_id)
    SELECT $1, $2, t.tenant_id FROM tenant t
    WHERE t.max_agents IS NULL OR tenant_has_room(t.tenant_id, t.max_agents)
    ON CONFLICT (agent_id) DO NOTHING
    RETURNING agent_id, name, tenant_id
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT tenant_id, at_or_now($4), $5::text, $6::text, $7::text, 'agent.registered', agent_id,
        jsonb_build_object('name', name)
    FROM registered
)
INSERT INTO agent_caps (agent_id) SELECT agent_id FROM registered
