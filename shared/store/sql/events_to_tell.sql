/* relaytrace: events_to_tell */
-- Events that are queued and not dealt out yet, the oldest first, with what a match looks at. Nothing is locked: the
-- statement that deals them out deletes them, and of two one does.
--
-- $1 at most so many
SELECT q.request_id AS "request_id: RequestId", q.seq, q.kind,
    r.tenant_id AS "tenant_id: TenantId", r.agent_id AS "agent_id: AgentId",
    r.action_type AS "action_type: ActionType", r.priority AS "priority: Priority", r.group_key, r.on_behalf_of,
    d.cause AS "cause?: Cause",
    CASE WHEN q.kind = 'outcome' THEN (
        SELECT convert_from(c.entry, 'UTF8')::json ->> 'state' FROM approval_chain c
        WHERE c.request_id = q.request_id AND c.seq = q.seq
    ) END AS state,
    -- The key that asked, where an instance may want to hear of it.
    CASE WHEN q.kind = 'decided' AND EXISTS (
        SELECT FROM listeners l WHERE l.tenant_id = r.tenant_id AND l.of_agent = r.agent_id AND l.removed_at IS NULL
    ) THEN (
        SELECT convert_from(c.entry, 'UTF8')::json ->> 'key_id' FROM approval_chain c
        WHERE c.request_id = q.request_id AND c.seq = 1
    ) END AS key_id
FROM (SELECT * FROM events_to_tell ORDER BY queued_at LIMIT $1) q
JOIN hitl_requests r USING (request_id)
LEFT JOIN hitl_decisions d USING (request_id)
