/* relaytrace: end_push */
-- Turns an agent's push off: its receiver says that it is gone. Nothing where it has another address by now.
--
-- $1 now (null: the database's clock), $2 listener_id, $3 the address that said so
WITH ended AS (
    UPDATE listeners l SET config = '{}', event_kinds = '{}', updated_at = at_or_now($1), updated_by = 'notify'
    WHERE l.listener_id = $2 AND l.kind = 'push' AND l.config ->> 'url' = $3
    RETURNING l.tenant_id, l.agent_id
)
INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
SELECT tenant_id, at_or_now($1), 'system', 'notify', NULL, 'agent.push_ended', agent_id,
    jsonb_build_object('url', $3::text, 'reason', 'the receiver answered 410')
FROM ended
