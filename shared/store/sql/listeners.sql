/* relaytrace: listeners */
-- Those that may be told something, of these tenants.
--
-- $1 tenants
SELECT listener_id, tenant_id AS "tenant_id: TenantId", channel_id AS "channel_id: ChannelId",
    agent_id AS "agent_id: AgentId", event_kinds, notices AS "notices: Vec<Notice>", matching::text AS matching
FROM listeners
WHERE removed_at IS NULL AND event_kinds <> '{}' AND tenant_id = ANY ($1::text[])
