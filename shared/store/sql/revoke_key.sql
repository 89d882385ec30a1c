/* relaytrace: revoke_key */
-- Revokes a key for good.
--
-- $1 key_id, $2 agent_id, $3 tenant_id, $4 now (null: the database's clock), $5 to $7 kind, id and name of who does it
WITH standing AS (
    SELECT k.key_id, k.revoked_at FROM agent_keys k
    WHERE k.key_id = $1 AND k.agent_id = $2
        AND EXISTS (SELECT FROM agents a WHERE a.agent_id = $2 AND a.tenant_id = $3)
    FOR NO KEY UPDATE
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT $3, at_or_now($4), $5::text, $6::text, $7::text, 'key.revoked', key_id, jsonb_build_object('agent_id', $2::text)
    FROM standing WHERE revoked_at IS NULL
)
UPDATE agent_keys k SET revoked_at = COALESCE(k.revoked_at, now()) FROM standing s WHERE k.key_id = s.key_id
