/* relaytrace: instance */
-- An instance as it was made, and whether its token may still be told. No row: the key that asks is not active, or the agent
-- has no such instance.
--
-- $1 key_id, $2 agent_id, $3 the key that asks
SELECT i.instance_name AS "name!", i.instance_sha256 AS "fingerprint!", i.first_used_at IS NOT NULL AS "is_used!",
    i.revoked_at IS NULL AND (i.expires_at IS NULL OR i.expires_at > now()) AS "is_active!", i.expires_at
FROM active_keys k
JOIN agent_keys i ON i.agent_id = k.agent_id AND i.key_id = $1 AND i.instance_of IS NOT NULL
WHERE k.key_id = $3 AND k.agent_id = $2
