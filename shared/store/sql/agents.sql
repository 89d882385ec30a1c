/* relaytrace: agents */
-- Agents in the order of their ids.
--
-- $1 after this id, $2 at most so many, $3 tenant_id
SELECT a.agent_id AS "agent_id: AgentId", a.name, a.status, a.created_at,
       p.last_polled_at AS "last_polled_at?",
       c.max_pending AS "max_pending?", c.max_pending_p1 AS "max_pending_p1?",
       a.default_priority AS "default_priority: Priority", l.config ->> 'url' AS push_url
FROM agents a
LEFT JOIN agent_polls p USING (agent_id)
LEFT JOIN agent_caps c USING (agent_id)
LEFT JOIN listeners l ON l.agent_id = a.agent_id
WHERE a.agent_id > $1 AND a.tenant_id = $3 ORDER BY a.agent_id LIMIT $2
