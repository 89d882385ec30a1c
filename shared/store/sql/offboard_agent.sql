/* relaytrace: offboard_agent */
-- Disables an agent and revokes its keys for good. Its requests stay on record.
--
-- $1 now (null: the database's clock), $2 agent_id, $3 tenant_id, $4 to $6 kind, id and name of who does it, $7 why
WITH agent AS (
    SELECT agent_id, tenant_id, status FROM agents WHERE agent_id = $2 AND tenant_id = $3 FOR NO KEY UPDATE
), disabled AS (
    UPDATE agents a SET status = 'disabled' FROM agent g WHERE a.agent_id = g.agent_id
), revoked AS (
    UPDATE agent_keys k SET revoked_at = at_or_now($1)
    FROM agent g WHERE k.agent_id = g.agent_id AND k.revoked_at IS NULL
    RETURNING k.key_id
), counted AS (
    SELECT count(*) AS keys FROM revoked
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT g.tenant_id, at_or_now($1), $4::text, $5::text, $6::text, 'agent.offboarded', g.agent_id,
        jsonb_build_object('was', g.status, 'keys_revoked', c.keys, 'reason', $7::text)
    FROM agent g CROSS JOIN counted c
    WHERE g.status = 'active' OR c.keys > 0
)
SELECT c.keys AS "keys!" FROM agent g CROSS JOIN counted c
