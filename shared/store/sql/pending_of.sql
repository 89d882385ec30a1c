/* relaytrace: pending_of */
-- What is pending of one agent, in the queue's order, beside the place up to which the queue was looked through. No row:
-- the key of the token is not active.
--
-- $1 key_id, $2 agent_id, $3 to $5 position in the queue after which the page starts, or null, $6 rows of a page,
-- $7 rows of the queue looked through at the most
WITH caller AS (
    SELECT k.agent_id, k.tenant_id FROM active_keys k WHERE k.key_id = $1 AND k.agent_id = $2
), page AS MATERIALIZED (
    -- Stops at the first row too many: whether there is a next page.
    SELECT q.*
    FROM (
        SELECT r.request_id, r.agent_id, r.client_request_key, r.priority, r.created_at, r.respond_by, r.action_digest,
            r.approvals_required, r.approvals_given, r.rule_name, r.rules_version
        FROM hitl_requests r
        WHERE r.tenant_id = (SELECT c.tenant_id FROM caller c) AND r.status = 'pending'
            AND (r.priority, r.respond_by, r.request_id) > (
                COALESCE($3::smallint, 0::smallint), COALESCE($4::timestamptz, '-infinity'),
                COALESCE($5::uuid, '00000000-0000-0000-0000-000000000000')
            )
        ORDER BY r.priority, r.respond_by, r.request_id LIMIT $7::bigint
    ) q
    WHERE q.agent_id = $2 AND EXISTS (SELECT FROM caller)
    ORDER BY q.priority, q.respond_by, q.request_id LIMIT $6::bigint + 1
), looked AS (
    -- The last row that was looked at, where that was the most and the page has room.
    SELECT r.priority, r.respond_by, r.request_id
    FROM hitl_requests r
    WHERE (SELECT count(*) FROM page) <= $6
        AND r.tenant_id = (SELECT c.tenant_id FROM caller c) AND r.status = 'pending'
        AND (r.priority, r.respond_by, r.request_id) > (
            COALESCE($3, 0::smallint), COALESCE($4, '-infinity'), COALESCE($5, '00000000-0000-0000-0000-000000000000')
        )
    ORDER BY r.priority, r.respond_by, r.request_id LIMIT 1 OFFSET $7 - 1
)
SELECT l.priority AS "looked_priority?: Priority", l.respond_by AS "looked_respond_by?",
    l.request_id AS "looked_request_id?: RequestId",
    p.request_id AS "request_id?: RequestId", p.client_request_key AS "client_request_key?: ClientRequestKey",
    p.priority AS "priority?: Priority", p.created_at AS "created_at?", p.respond_by AS "respond_by?",
    p.action_digest AS "action_digest?", p.approvals_required, p.approvals_given,
    p.rule_name, p.rules_version
FROM caller c LEFT JOIN page p ON true LEFT JOIN looked l ON true
ORDER BY p.priority, p.respond_by, p.request_id
