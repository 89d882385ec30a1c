/* relaytrace: register_agent */
-- Registers an agent and the counter of its caps.
--
-- $1 agent_id, $2 name, $3 tenant_id, $4 now (null: the database's clock), $5 to $7 kind, id and name of who does it
WITH registered AS (
    INSERT INTO agents (agent_id, name, tenant_id) VALUES ($1, $2, $3) ON CONFLICT (agent_id) DO NOTHING
    RETURNING agent_id, name, tenant_id
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT tenant_id, at_or_now($4), $5::text, $6::text, $7::text, 'agent.registered', agent_id,
        jsonb_build_object('name', name)
    FROM registered
)
INSERT INTO agent_caps (agent_id) SELECT agent_id FROM registered
