/* relaytrace: agent */
-- One agent with its keys, oldest first.
--
-- $1 agent_id, $2 tenant_id
SELECT a.agent_id AS "agent_id: AgentId", a.name, a.status, a.created_at,
       p.last_polled_at AS "last_polled_at?",
       c.max_pending AS "max_pending?", c.max_pending_p1 AS "max_pending_p1?",
       a.default_priority AS "default_priority: Priority", l.config ->> 'url' AS push_url,
       k.key_id AS "key_id?: KeyId", k.alg AS "alg?", k.created_at AS "key_created_at?",
       k.first_used_at AS "first_used_at?", k.revoked_at AS "revoked_at?",
       k.scopes AS "scopes?: Vec<KeyScope>", k.execute_agents AS "execute_agents?: Vec<AgentId>",
       k.execute_action_types AS "execute_action_types?: Vec<ActionType>", k.expires_at AS "expires_at?"
FROM agents a
LEFT JOIN agent_polls p USING (agent_id)
LEFT JOIN agent_caps c USING (agent_id)
LEFT JOIN listeners l ON l.agent_id = a.agent_id
LEFT JOIN agent_keys k ON k.agent_id = a.agent_id
WHERE a.agent_id = $1 AND a.tenant_id = $2 ORDER BY k.created_at, k.key_id
