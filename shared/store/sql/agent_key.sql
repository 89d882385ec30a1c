/* relaytrace: agent_key */
-- A key as its holder is verified with it, revoked or not.
--
-- $1 key_id
SELECT k.key_id AS "key_id: KeyId", k.agent_id AS "agent_id: AgentId", a.tenant_id AS "tenant_id: TenantId", k.alg,
       k.public_key, k.master_id,
       k.scopes AS "scopes: Vec<KeyScope>", k.execute_agents AS "execute_agents: Vec<AgentId>",
       k.execute_action_types AS "execute_action_types: Vec<ActionType>", k.expires_at,
       k.first_used_at IS NOT NULL AS "used!",
       k.revoked_at IS NULL AND a.status = 'active' AS "active!"
FROM agent_keys k JOIN agents a USING (agent_id)
WHERE k.key_id = $1
