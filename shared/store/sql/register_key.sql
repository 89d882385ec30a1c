/* relaytrace: register_key */
-- Registers a key. The agent is looked up here: its absence is an answer, not a broken foreign key.
--
-- $1 key_id, $2 agent_id, $3 alg, $4 public key (SubjectPublicKeyInfo, DER), $5 master_id, $6 tenant_id, $7 now (null: the
-- database's clock), $8 to $10 kind, id and name of who does it
WITH registered AS (
    INSERT INTO agent_keys (key_id, agent_id, alg, public_key, master_id)
    SELECT $1, a.agent_id, $3, $4, $5 FROM agents a WHERE a.agent_id = $2 AND a.tenant_id = $6
    ON CONFLICT (key_id) DO NOTHING
    RETURNING key_id, agent_id, alg, public_key
)
INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
SELECT $6, at_or_now($7), $8::text, $9::text, $10::text, 'key.registered', key_id,
    jsonb_build_object('agent_id', agent_id, 'alg', alg, 'public_key_sha256', encode(sha256(public_key), 'hex'))
FROM registered
