/* relaytrace: revoke_key */
-- Revokes a key for good.
--
-- $1 key_id, $2 agent_id, $3 tenant_id
UPDATE agent_keys SET revoked_at = COALESCE(revoked_at, now()) WHERE key_id = $1 AND agent_id = $2
    AND EXISTS (SELECT FROM agents a WHERE a.agent_id = $2 AND a.tenant_id = $3)
