/* relaytrace: expire_due */
-- Pending requests whose time is over and that their policy decides: what decide.sql is to be asked. The lock skips
-- rows that somebody else is deciding; it ends with this statement, so decide.sql looks at each again.
--
-- $1 now (null: the database's clock), $2 at most so many of each priority, $3 whether a policy may approve,
-- $4 only this request (null: any)
SELECT r.request_id AS "request_id!: RequestId", r.action_digest AS "action_digest!",
    CASE WHEN r.on_timeout = 'auto_approve' AND r.priority > 1 AND $3::boolean
        AND r.consume_required IS NOT TRUE AND COALESCE(r.approvals_required, 1) = 1
        AND r.assigned_groups IS NULL AND r.assigned_operators IS NULL
        AND NOT EXISTS (
            SELECT FROM freezes f
            WHERE f.tenant_id = r.tenant_id AND f.ends_at > at_or_now($1)
                AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
                AND (f.action_type IS NULL OR f.action_type = r.action_type)
        )
        THEN 'approved' ELSE 'rejected' END AS "outcome!: Outcome"
FROM (VALUES (1::smallint), (2::smallint), (3::smallint)) AS p (priority)
CROSS JOIN LATERAL (
    SELECT r.request_id, r.action_digest, r.on_timeout, r.priority, r.tenant_id, r.agent_id, r.action_type,
        r.consume_required, r.approvals_required, r.assigned_groups, r.assigned_operators
    FROM hitl_requests r
    WHERE r.status = 'pending' AND r.priority = p.priority AND r.respond_by <= at_or_now($1)
        AND NOT may_be_raised(r.on_timeout, r.priority, r.requested_respond_by, at_or_now($1))
        AND ($4::uuid IS NULL OR r.request_id = $4)
        AND NOT EXISTS (
            SELECT FROM sweep_failures f
            WHERE f.part = 'expire' AND f.request_id = r.request_id AND f.retry_at > at_or_now($1)
        )
    ORDER BY r.respond_by LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
) r
