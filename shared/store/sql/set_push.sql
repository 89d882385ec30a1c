/* relaytrace: set_push */
-- Sets an agent's push: its secrets, its address, or both. No row where the agent is not there, or its secrets are others
-- than the caller has read.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 agent_id, $4 the secrets that were read (null: none), $5 the new
-- ones, $6 whether the address changes, $7 the address (null: off), $8 to $10 kind, id and name of who does it, $11 kinds
-- of events of a push
WITH agent AS (
    SELECT a.agent_id, a.tenant_id FROM agents a WHERE a.agent_id = $3 AND a.tenant_id = $2
), set AS (
    INSERT INTO listeners AS l (tenant_id, agent_id, kind, config, sealed, event_kinds, created_at, updated_at, updated_by)
    SELECT a.tenant_id, a.agent_id, 'push', '{}', $5, '{}', at_or_now($1), at_or_now($1), $9
    FROM agent a WHERE $4::bytea IS NULL OR EXISTS (SELECT FROM listeners o WHERE o.agent_id = a.agent_id)
    ON CONFLICT (agent_id) DO UPDATE
    SET sealed = $5, updated_at = excluded.updated_at, updated_by = excluded.updated_by,
        config = CASE WHEN NOT $6::boolean THEN l.config
            WHEN $7::text IS NULL THEN '{}' ELSE jsonb_build_object('url', $7) END,
        event_kinds = CASE WHEN NOT $6 THEN l.event_kinds WHEN $7 IS NULL THEN '{}' ELSE $11::text[] END
    WHERE l.sealed IS NOT DISTINCT FROM $4
    RETURNING l.tenant_id, l.agent_id, l.config ->> 'url' AS url
)
INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
SELECT tenant_id, at_or_now($1), $8::text, $9, $10::text,
    CASE WHEN $6 THEN 'agent.push_set' ELSE 'agent.push_secret_made' END, agent_id, jsonb_build_object('url', url)
FROM set
