/* relaytrace: remove_channel */
-- Removes a channel and its secret. One row where there was ever one of this name.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 channel_id, $4 to $6 kind, id and name of who does it
WITH standing AS (
    SELECT l.listener_id, l.removed_at, l.kind, l.config, l.notices, l.matching
    FROM listeners l WHERE l.tenant_id = $2 AND l.channel_id = $3
    FOR NO KEY UPDATE
), removed AS (
    UPDATE listeners l
    SET removed_at = at_or_now($1), sealed = NULL, config = '{}', event_kinds = '{}', updated_at = at_or_now($1),
        updated_by = $5
    FROM standing s WHERE l.listener_id = s.listener_id AND s.removed_at IS NULL
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT $2, at_or_now($1), $4::text, $5, $6::text, 'channel.removed', $3, jsonb_build_object(
        'was', jsonb_build_object('kind', s.kind, 'config', s.config, 'events', s.notices, 'match', s.matching))
    FROM standing s WHERE s.removed_at IS NULL
)
SELECT listener_id FROM standing
