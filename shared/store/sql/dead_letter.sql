/* relaytrace: dead_letter */
-- One dead letter.
--
-- $1 dead_letter_id, $2 tenant_id
SELECT dead_letter_id, kind AS "kind: DeadLetterKind", request_id AS "request_id: RequestId",
    agent_id AS "agent_id: AgentId", channel_id AS "channel_id: ChannelId", notice, cause, attempts, error_code,
    error_message, first_at, last_at,
    resolved_at, resolution AS "resolution: Resolution", resolved_by, resolve_reason
FROM dead_letters WHERE dead_letter_id = $1 AND tenant_id = $2
