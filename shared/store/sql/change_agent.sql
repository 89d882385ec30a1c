/* relaytrace: change_agent */
-- Changes an agent. Its caps count from then on.
--
-- $1 agent_id, $2 name (null: stays), $3 status (null: stays), $4 whether max_pending changes, $5 max_pending (null: no
-- cap), $6 and $7 the same of max_pending_p1, $8 tenant_id
WITH changed AS (
    UPDATE agents SET name = COALESCE($2, name), status = COALESCE($3, status) WHERE agent_id = $1 AND tenant_id = $8
    RETURNING agent_id
)
INSERT INTO agent_caps AS c (agent_id, max_pending, max_pending_p1)
SELECT agent_id, $5::integer, $7::integer FROM changed
ON CONFLICT (agent_id) DO UPDATE
SET max_pending = CASE WHEN $4::boolean THEN excluded.max_pending ELSE c.max_pending END,
    max_pending_p1 = CASE WHEN $6::boolean THEN excluded.max_pending_p1 ELSE c.max_pending_p1 END
