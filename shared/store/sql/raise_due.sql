/* relaytrace: raise_due */
-- Pending requests whose time is over and that their policy raises by one step, with that step's time, never past the
-- agent's own deadline: what adjust.sql is to be asked. The lock skips rows that somebody else is at; it ends with this
-- statement, so adjust.sql looks at each again.
--
-- $1 now (null: the database's clock), $2 at most so many of each priority, $3 only this request (null: any)
SELECT r.request_id AS "request_id!: RequestId", r.priority - 1 AS "priority!", t.respond_by AS "respond_by!",
    -- The further groups of a rule that no sweep has asked in their time are asked now.
    CASE WHEN r.rule_terms ? 'escalate_to' AND r.escalated_at IS NULL THEN at_or_now($1)
        ELSE at_or_now($1) + (t.respond_by - at_or_now($1)) * p.escalate_after_percent / 100 END AS escalate_at,
    p.policy_id AS "policy_id!"
FROM (VALUES (2::smallint), (3::smallint)) AS s (priority)
CROSS JOIN LATERAL (
    SELECT r.request_id, r.tenant_id, r.agent_id, r.action_type, r.priority, r.requested_respond_by, r.rule_terms,
        r.escalated_at
    FROM hitl_requests r
    WHERE r.status = 'pending' AND r.priority = s.priority AND r.respond_by <= at_or_now($1)
        AND may_be_raised(r.on_timeout, r.priority, r.requested_respond_by, at_or_now($1))
        AND ($3::uuid IS NULL OR r.request_id = $3)
        AND NOT EXISTS (
            SELECT FROM sweep_failures f
            WHERE f.part = 'raise' AND f.request_id = r.request_id AND f.retry_at > at_or_now($1)
        )
    ORDER BY r.respond_by LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
) r
CROSS JOIN LATERAL applying_terms(r.tenant_id, r.agent_id, r.action_type, (r.priority - 1)::smallint) p
CROSS JOIN LATERAL (
    SELECT LEAST(at_or_now($1) + make_interval(secs => p.respond_within_seconds), r.requested_respond_by) AS respond_by
) t
