/* relaytrace: provision */
-- Makes a bearer key of an instance, which ends with the key that asks, and tells its receiver of what is asked with it. No row: the key that asks is not
-- active, its agent has as many instances as it may, or the new key's id is taken.
--
-- $1 now (null: the database's clock), $2 key_id, $3 agent_id, $4 SHA-256 of the token, $5 master_id, $6 the key that asks,
-- $7 name, $8 SHA-256 of the body, $9 configuration of the receiver (JSON, null: none), $10 its sealed secret,
-- $11 instances of an agent at the most
WITH asking AS (
    SELECT a.agent_id, a.tenant_id, o.expires_at
    FROM active_keys k JOIN agents a ON a.agent_id = k.agent_id JOIN agent_keys o ON o.key_id = k.key_id
    WHERE k.key_id = $6 AND k.agent_id = $3
        AND $11::bigint > (
            SELECT count(*) FROM agent_keys o
            WHERE o.agent_id = $3 AND o.instance_of IS NOT NULL AND o.revoked_at IS NULL
        )
), made AS (
    INSERT INTO agent_keys (key_id, agent_id, alg, public_key, master_id, scopes, instance_name, instance_of, instance_sha256,
        expires_at)
    SELECT $2, g.agent_id, 'bearer', $4, $5, ARRAY['ask', 'execute'], $7, $6, $8, g.expires_at FROM asking g
    ON CONFLICT (key_id) DO NOTHING
    RETURNING key_id, agent_id, expires_at
), listening AS (
    INSERT INTO listeners (tenant_id, of_agent, key_id, kind, config, sealed, event_kinds, created_at, updated_at, updated_by)
    SELECT g.tenant_id, m.agent_id, m.key_id, 'instance', $9::text::jsonb, $10::bytea, ARRAY['decided'], at_or_now($1),
        at_or_now($1), $6
    FROM made m JOIN asking g ON g.agent_id = m.agent_id
    WHERE $9 IS NOT NULL
)
SELECT expires_at FROM made
