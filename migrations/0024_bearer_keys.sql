-- Keys have scopes, may end by themselves, and may be bearer secrets. Additive: keys that are there ask and execute, as
-- before. 0025 validates the constraints.
SET LOCAL lock_timeout = '2s';

ALTER TABLE agent_keys
    ADD COLUMN scopes text[] NOT NULL DEFAULT ARRAY['ask', 'execute'],
    ADD COLUMN execute_agents text[],
    ADD COLUMN execute_action_types text[],
    ADD COLUMN expires_at timestamptz,
    DROP CONSTRAINT agent_keys_alg_known,
    ADD CONSTRAINT agent_keys_alg_known CHECK (alg IN ('EdDSA', 'ES256', 'bearer')) NOT VALID,
    ADD CONSTRAINT agent_keys_bearer_is_a_digest CHECK (alg <> 'bearer' OR octet_length(public_key) = 32) NOT VALID,
    ADD CONSTRAINT agent_keys_scopes_known
        CHECK (scopes <@ ARRAY['ask', 'execute', 'execute-any', 'hook', 'provision'] AND cardinality(scopes) > 0) NOT VALID,
    ADD CONSTRAINT agent_keys_execute_any_names CHECK (
        ('execute-any' = ANY (scopes)) = (execute_agents IS NOT NULL OR execute_action_types IS NOT NULL)
    ) NOT VALID;
COMMENT ON TABLE agent_keys IS 'What agents authenticate with. A key_id is never reused, so what is stored beside it never changes but for first_used_at and revoked_at.';
COMMENT ON COLUMN agent_keys.alg IS 'The only algorithm that this key verifies: EdDSA (Ed25519) or ES256; or bearer: the secret itself is sent.';
COMMENT ON COLUMN agent_keys.public_key IS 'SubjectPublicKeyInfo, DER; of a bearer key the SHA-256 of its token.';
COMMENT ON COLUMN agent_keys.scopes IS 'What the key may do: ask, execute, execute-any, hook, provision.';
COMMENT ON COLUMN agent_keys.execute_agents IS 'With execute-any: the agents whose permits it may use; null: any of its tenant.';
COMMENT ON COLUMN agent_keys.execute_action_types IS 'With execute-any: the action types whose permits it may use; null: any.';
COMMENT ON COLUMN agent_keys.expires_at IS 'From then on it is not accepted; null: it does not end by itself.';

CREATE OR REPLACE VIEW active_keys WITH (security_invoker = true) AS
    SELECT k.key_id, k.agent_id, a.tenant_id, k.scopes, k.execute_agents, k.execute_action_types
    FROM agent_keys k JOIN agents a ON a.agent_id = k.agent_id
    WHERE k.revoked_at IS NULL AND a.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now());
COMMENT ON VIEW active_keys IS 'Keys that are accepted: not revoked, not expired, of an agent that is not disabled.';
