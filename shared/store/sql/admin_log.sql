/* relaytrace: admin_log */
-- What administrators did in a tenant, the newest first.
--
-- $1 tenant_id, $2 from (null: the beginning), $3 to (null: now), $4 the actor's id (null: anybody), $5 and $6 after this
-- time and id (null: from the start), $7 at most so many
SELECT log_id, at, actor_kind AS "actor_kind: ActorKind", actor_id, actor_name, action, subject, details
FROM admin_log
WHERE tenant_id = $1
    AND ($2::timestamptz IS NULL OR at >= $2) AND ($3::timestamptz IS NULL OR at < $3)
    AND ($4::text IS NULL OR actor_id = $4)
    AND ($5::timestamptz IS NULL OR (at, log_id) < ($5, $6::uuid))
ORDER BY at DESC, log_id DESC LIMIT $7
