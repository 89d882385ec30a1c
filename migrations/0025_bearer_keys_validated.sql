-- The second half of 0024, which must not hold that one's locks: rows are read here while everybody works.
SET LOCAL lock_timeout = '2s';

ALTER TABLE agent_keys VALIDATE CONSTRAINT agent_keys_alg_known;
ALTER TABLE agent_keys VALIDATE CONSTRAINT agent_keys_bearer_is_a_digest;
ALTER TABLE agent_keys VALIDATE CONSTRAINT agent_keys_scopes_known;
ALTER TABLE agent_keys VALIDATE CONSTRAINT agent_keys_execute_any_names;
