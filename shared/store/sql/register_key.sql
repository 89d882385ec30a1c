/* relaytrace: register_key */
-- Registers a key. The agent is looked up here: its absence is an answer, not a broken foreign key.
--
-- $1 key_id, $2 agent_id, $3 alg, $4 public key (SubjectPublicKeyInfo, DER), $5 master_id, $6 tenant_id
INSERT INTO agent_keys (key_id, agent_id, alg, public_key, master_id)
SELECT $1, a.agent_id, $3, $4, $5 FROM agents a WHERE a.agent_id = $2 AND a.tenant_id = $6
ON CONFLICT (key_id) DO NOTHING
