/* relaytrace: set_channel */
-- Makes a channel or changes it.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 channel_id, $4 kind, $5 config (JSON), $6 sealed secret (null: none),
-- $7 kinds of events, $8 notices, $9 matching (JSON, null: all), $10 to $12 kind, id and name of who does it, $13 most
-- channels of a tenant
WITH before AS (
    -- Locked, so that the log says what it was. Never a secret.
    SELECT l.listener_id, l.removed_at,
        jsonb_build_object('kind', l.kind, 'config', l.config, 'events', l.notices, 'match', l.matching) AS was
    FROM listeners l WHERE l.tenant_id = $2 AND l.channel_id = $3
    FOR NO KEY UPDATE
), set AS (
    INSERT INTO listeners AS l (tenant_id, channel_id, kind, config, sealed, event_kinds, notices, matching, created_at,
        updated_at, updated_by)
    SELECT $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9::text::jsonb, at_or_now($1), at_or_now($1), $11
    WHERE EXISTS (SELECT FROM before WHERE removed_at IS NULL) OR $13::bigint > (
        SELECT count(*) FROM listeners o WHERE o.tenant_id = $2 AND o.channel_id IS NOT NULL AND o.removed_at IS NULL
    )
    ON CONFLICT (tenant_id, channel_id) DO UPDATE
    SET kind = excluded.kind, config = excluded.config, sealed = excluded.sealed, event_kinds = excluded.event_kinds,
        notices = excluded.notices, matching = excluded.matching, updated_at = excluded.updated_at,
        updated_by = excluded.updated_by, removed_at = NULL,
        created_at = CASE WHEN l.removed_at IS NULL THEN l.created_at ELSE excluded.created_at END
    RETURNING l.channel_id, l.kind, l.config, l.sealed, l.notices, l.matching, l.created_at, l.updated_at, l.updated_by
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT $2, s.updated_at, $10::text, $11, $12::text, 'channel.set', s.channel_id, jsonb_build_object(
        'was', (SELECT b.was FROM before b WHERE b.removed_at IS NULL),
        'became', jsonb_build_object('kind', s.kind, 'config', s.config, 'events', s.notices, 'match', s.matching))
    FROM set s
)
SELECT channel_id AS "channel_id!: ChannelId", kind AS "kind: ChannelKind", config::text AS "config!", sealed,
    notices AS "notices: Vec<Notice>", matching::text AS matching, created_at, updated_at, updated_by
FROM set
