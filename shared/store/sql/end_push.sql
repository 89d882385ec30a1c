/* relaytrace: end_push */
-- Tells one receiver nothing any more: it says that it is gone. Nothing where it has another address by now.
--
-- $1 now (null: the database's clock), $2 listener_id, $3 the configuration that was told (JSON)
WITH ended AS (
    UPDATE listeners l
    SET config = '{}', event_kinds = '{}', updated_at = at_or_now($1), updated_by = 'notify',
        -- An agent's secrets stay: an administrator turns its push on again.
        removed_at = CASE WHEN l.kind = 'push' THEN l.removed_at ELSE at_or_now($1) END,
        sealed = CASE WHEN l.kind = 'push' THEN l.sealed END
    WHERE l.listener_id = $2 AND l.kind IN ('push', 'instance', 'browser') AND l.config = $3::text::jsonb
    RETURNING l.tenant_id, l.agent_id, l.of_agent, l.key_id, l.kind
)
INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
SELECT tenant_id, at_or_now($1), 'system', 'notify', NULL, 'agent.push_ended', COALESCE(agent_id, of_agent),
    jsonb_strip_nulls(jsonb_build_object(
        'url', $3::text::jsonb -> 'url', 'instance_id', key_id, 'reason', 'the receiver answered 410'
    ))
FROM ended WHERE kind <> 'browser'
