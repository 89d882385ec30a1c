/* relaytrace: freezes */
-- Freezes of a tenant, the newest first.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 only of this name (null: any), $4 whether in force (null: either),
-- $5 and $6 after this time and name (null: from the start), $7 at most so many
SELECT f.freeze_id AS "freeze_id: FreezeId", f.agent_id AS "agent_id: AgentId",
    f.action_type AS "action_type: ActionType", f.mode AS "mode: FreezeMode", f.until AS "until!", f.reason, f.created_at,
    f.created_by, f.ended_at, f.ended_by, f.ends_at > at_or_now($1) AS "is_in_force!"
FROM freezes f
WHERE f.tenant_id = $2
    AND ($3::text IS NULL OR f.freeze_id = $3)
    AND ($4::boolean IS NULL OR (f.ends_at > at_or_now($1)) = $4)
    AND ($5::timestamptz IS NULL OR (f.created_at, f.freeze_id) < ($5, $6::text))
ORDER BY f.created_at DESC, f.freeze_id DESC LIMIT $7
