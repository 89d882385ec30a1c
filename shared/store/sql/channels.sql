/* relaytrace: channels */
-- Channels of a tenant in the order of their names.
--
-- $1 tenant_id, $2 only of this name (null: any), $3 after this name, $4 at most so many
SELECT channel_id AS "channel_id!: ChannelId", kind AS "kind: ChannelKind", config::text AS "config!", sealed,
    notices AS "notices: Vec<Notice>", matching::text AS matching, created_at, updated_at, updated_by
FROM listeners
WHERE tenant_id = $1 AND channel_id IS NOT NULL AND removed_at IS NULL
    AND ($2::text IS NULL OR channel_id = $2) AND channel_id > $3
ORDER BY channel_id LIMIT $4
