/* relaytrace: register_key */
-- Registers a key. The agent is looked up here: its absence is an answer, not a broken foreign key.
--
-- $1 key_id, $2 agent_id, $3 alg, $4 public key (SubjectPublicKeyInfo, DER; bearer: the token's SHA-256), $5 master_id,
-- $6 tenant_id, $7 now (null: the database's clock), $8 to $10 kind, id and name of who does it, $11 scopes, $12 and $13
-- agents and action types of execute-any (null: any), $14 when it expires (null: never)
WITH registered AS (
    INSERT INTO agent_keys
        (key_id, agent_id, alg, public_key, master_id, scopes, execute_agents, execute_action_types, expires_at)
    SELECT $1, a.agent_id, $3, $4, $5, $11, $12, $13, $14 FROM agents a WHERE a.agent_id = $2 AND a.tenant_id = $6
    ON CONFLICT (key_id) DO NOTHING
    RETURNING key_id, agent_id, alg, public_key, scopes, execute_agents, execute_action_types, expires_at
)
INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
SELECT $6, at_or_now($7), $8::text, $9::text, $10::text, 'key.registered', key_id,
    jsonb_build_object('agent_id', agent_id, 'alg', alg, 'scopes', scopes)
    || CASE WHEN alg = 'bearer' THEN '{}'
        ELSE jsonb_build_object('public_key_sha256', encode(sha256(public_key), 'hex')) END
    || jsonb_strip_nulls(jsonb_build_object(
        'agents', execute_agents, 'action_types', execute_action_types, 'expires_at', rfc3339(expires_at)
    ))
FROM registered
