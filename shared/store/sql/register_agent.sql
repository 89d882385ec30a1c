/* relaytrace: register_agent */
-- Registers an agent and the counter of its caps.
--
-- $1 agent_id, $2 name, $3 tenant_id
WITH registered AS (
    INSERT INTO agents (agent_id, name, tenant_id) VALUES ($1, $2, $3) ON CONFLICT (agent_id) DO NOTHING
    RETURNING agent_id
)
INSERT INTO agent_caps (agent_id) SELECT agent_id FROM registered
