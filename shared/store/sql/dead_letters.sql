/* relaytrace: dead_letters */
-- Dead letters, the newest first.
--
-- $1 only open or only resolved ones (null: both), $2 kinds (none: any), $3 agents (none: any), $4 and $5 after this
-- time and id (null: from the start), $6 at most so many,
-- $7 tenant_id
SELECT dead_letter_id, kind AS "kind: DeadLetterKind", request_id AS "request_id: RequestId",
    agent_id AS "agent_id: AgentId", channel_id AS "channel_id: ChannelId", notice, cause, attempts, error_code,
    error_message, first_at, last_at,
    resolved_at, resolution AS "resolution: Resolution", resolved_by, resolve_reason
FROM dead_letters
WHERE tenant_id = $7
    AND ($1::boolean IS NULL OR (resolved_at IS NULL) = $1)
    AND (cardinality($2::text[]) = 0 OR kind = ANY ($2))
    AND (cardinality($3::text[]) = 0 OR agent_id = ANY ($3))
    AND ($4::timestamptz IS NULL OR (last_at, dead_letter_id) < ($4, $5::uuid))
ORDER BY last_at DESC, dead_letter_id DESC LIMIT $6
