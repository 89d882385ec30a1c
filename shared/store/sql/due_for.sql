/* relaytrace: due_for */
-- Requests that a part of the sweep may have to do with now. What has failed waits its time.
--
-- $1 now (null: the database's clock), $2 part, $3 at most so many
SELECT due.request_id AS "request_id!: RequestId"
FROM (
    SELECT r.request_id FROM hitl_requests r
    WHERE $2 IN ('raise', 'expire') AND r.status = 'pending'
        AND r.respond_by <= at_or_now($1)
    UNION ALL
    SELECT r.request_id FROM hitl_requests r
    WHERE $2 = 'escalate' AND r.status = 'pending' AND r.escalated_at IS NULL
        AND r.escalate_at IS NOT NULL AND r.escalate_at <= at_or_now($1)
    UNION ALL
    SELECT d.request_id FROM deliveries d
    WHERE $2 = 'dead_letter' AND d.state IN ('ready', 'leased') AND d.attempt >= 0
        AND d.expires_at <= at_or_now($1)
    UNION ALL
    SELECT o.request_id FROM outcomes_due o
    WHERE $2 = 'outcome' AND o.due_at <= at_or_now($1) AND o.unknown_at IS NULL
    UNION ALL
    SELECT r.request_id
    FROM tenants t
    JOIN freezes f ON f.tenant_id = t.tenant_id AND f.ends_at > at_or_now($1) AND f.mode = 'stop'
    JOIN hitl_requests r ON r.tenant_id = f.tenant_id AND r.status = 'pending'
        AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
        AND (f.action_type IS NULL OR f.action_type = r.action_type)
    WHERE $2 = 'stop'
) due
WHERE NOT EXISTS (
    SELECT FROM sweep_failures f WHERE f.part = $2 AND f.request_id = due.request_id
        AND f.retry_at > at_or_now($1)
)
LIMIT $3
