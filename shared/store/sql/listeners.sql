/* relaytrace: listeners */
-- Those that may be told something of these requests. Browsers are looked up with who may decide (browsers_to_tell.sql).
--
-- $1 tenants, $2 keys that the requests were made with
SELECT listener_id, tenant_id AS "tenant_id: TenantId", channel_id AS "channel_id: ChannelId",
    agent_id AS "agent_id: AgentId", key_id, event_kinds, notices AS "notices: Vec<Notice>", matching::text AS matching
FROM listeners l
WHERE removed_at IS NULL AND event_kinds <> '{}' AND tenant_id = ANY ($1::text[]) AND kind <> 'browser'
    AND (key_id IS NULL OR key_id = ANY ($2::text[]))
