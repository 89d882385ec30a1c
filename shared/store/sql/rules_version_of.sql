/* relaytrace: rules_version_of */
-- An agent's tenant, and the version of its rules. No row: the key or agent is not active. $1 key_id, $2 agent_id
SELECT k.tenant_id AS "tenant_id!: TenantId", k.rules_version FROM active_keys k WHERE k.key_id = $1 AND k.agent_id = $2
