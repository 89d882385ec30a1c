/* relaytrace: queue */
-- A page of the queue by priority, deadline and id.
--   $1 statuses, $2 priorities
--   $3 priority, $4 deadline and $5 id of the item before the page; NULL for the first page
--   $6 items wanted, $7 requests looked through in each status and priority
--   $8 agents, $9 action types, $10 outcomes, $11 ids of who decided, $12 delivery states; NULL admits all
--   $13 from, $14 to (exclusive), of the decision or else of the submission
--   $15 patterns that must all be found, $16 bytes of envelopes looked through in each status and priority
--   $17 groups of requests; $18 operator and $19 groups of operators that it is assigned to; NULL admits all
--   $20 now, NULL for the database's clock; $21 tenant
WITH page AS (
    SELECT q.*
    FROM UNNEST($1::text[]) AS s (status)
    CROSS JOIN UNNEST($2::smallint[]) AS p (priority)
    -- One bounded index scan for each status and priority, each starting where the page starts.
    CROSS JOIN LATERAL (
        SELECT r.*
        FROM (
            SELECT r.*, sum(r.bytes) OVER (ORDER BY r.respond_by, r.request_id ROWS UNBOUNDED PRECEDING) AS bytes_so_far
            FROM (
                SELECT r.request_id, r.agent_id, r.title, r.priority, r.status, r.action_type, r.created_at,
                    r.respond_by, r.escalated_at, r.client_request_key, r.group_key, r.assigned_operators, r.assigned_groups,
                    r.execution, r.permit_expires_at,
                    -- The size is known without reading the envelope.
                    CASE WHEN $15::text[] IS NOT NULL THEN (
                        SELECT octet_length(e.envelope) FROM request_envelopes e WHERE e.request_id = r.request_id
                    ) END AS bytes
                FROM hitl_requests r
                WHERE r.status = s.status AND r.priority = p.priority AND r.tenant_id = $21
                    AND (r.respond_by, r.request_id) > (
                        CASE WHEN p.priority = $3::smallint THEN $4::timestamptz ELSE '-infinity' END,
                        CASE WHEN p.priority = $3 THEN $5::uuid ELSE '00000000-0000-0000-0000-000000000000' END
                    )
                ORDER BY r.respond_by, r.request_id
                LIMIT $7::bigint
            ) r
        ) r
        WHERE ($8::text[] IS NULL OR r.agent_id = ANY ($8))
            AND ($9::text[] IS NULL OR r.action_type = ANY ($9))
            AND (COALESCE($10::text[], $11::text[]) IS NULL OR EXISTS (
                SELECT FROM hitl_decisions d
                WHERE d.request_id = r.request_id AND ($10 IS NULL OR d.outcome = ANY ($10))
                    AND ($11 IS NULL OR d.decided_by_id = ANY ($11))))
            AND ($12::text[] IS NULL OR EXISTS (
                SELECT FROM deliveries v WHERE v.request_id = r.request_id AND v.state = ANY ($12)))
            AND (COALESCE($13::timestamptz, $14::timestamptz) IS NULL OR (
                SELECT COALESCE(d.at, r.created_at) >= COALESCE($13, '-infinity')
                    AND COALESCE(d.at, r.created_at) < COALESCE($14, 'infinity')
                FROM (SELECT (SELECT d.decided_at FROM hitl_decisions d WHERE d.request_id = r.request_id) AS at) d))
            AND ($17::text[] IS NULL OR r.group_key = ANY ($17))
            AND ($18::text IS NULL OR $18 = ANY (r.assigned_operators) OR r.assigned_groups && $19::text[])
            AND ($15 IS NULL
                OR concat_ws(E'\n', r.title, r.action_type, r.client_request_key, r.agent_id, r.request_id) ILIKE ALL ($15)
                OR (r.bytes_so_far <= $16::bigint AND concat_ws(E'\n', r.title, r.action_type, r.client_request_key,
                    r.agent_id, r.request_id, (
                        SELECT searchable_arguments(e.envelope) FROM request_envelopes e WHERE e.request_id = r.request_id
                    )) ILIKE ALL ($15)))
        ORDER BY r.respond_by, r.request_id
        LIMIT $6::bigint
    ) q
    WHERE $3 IS NULL OR p.priority >= $3
    ORDER BY q.priority, q.respond_by, q.request_id
    LIMIT $6
)
SELECT q.request_id AS "request_id!: RequestId", q.agent_id AS "agent_id!: AgentId", q.title AS "title!",
    q.priority AS "priority!: Priority", q.status AS "status!: Status", q.action_type AS "action_type!",
    q.created_at AS "created_at!", q.respond_by AS "respond_by!", q.escalated_at, q.group_key,
    d.outcome AS "outcome?: Outcome", d.cause AS "cause?: Cause", d.decided_at AS "decided_at?",
    d.decided_by_kind AS "decided_by_kind?: ActorKind", d.decided_by_id AS "decided_by_id?", d.decided_by_name,
    d.decided_for AS "decided_for?", d.decided_for_name, q.assigned_groups, q.assigned_operators,
    c.operator_id AS "claimed_by?", c.operator_name AS claimed_by_name, c.claimed_until AS "claimed_until?",
    v.state AS "delivery_state?: DeliveryState", v.result AS "delivery_result?", v.error_code, v.error_message,
    COALESCE(q.execution, CASE
        WHEN d.outcome IS DISTINCT FROM 'approved' OR q.permit_expires_at IS NULL THEN 'none'
        WHEN at_or_now($20) >= q.permit_expires_at THEN 'unused'
        -- A stop has revoked it, at the latest by its end.
        WHEN EXISTS (
            SELECT FROM freezes f
            WHERE f.tenant_id = $21 AND f.ends_at > d.decided_at AND f.mode = 'stop'
                AND (f.agent_id IS NULL OR f.agent_id = q.agent_id)
                AND (f.action_type IS NULL OR f.action_type = q.action_type)
        ) THEN 'unused'
        ELSE 'waiting'
    END) AS "execution!: Execution"
FROM page q
LEFT JOIN hitl_decisions d ON d.request_id = q.request_id
LEFT JOIN deliveries v ON v.request_id = q.request_id
LEFT JOIN claims c ON c.request_id = q.request_id AND q.status = 'pending' AND c.claimed_until > at_or_now($20)
ORDER BY q.priority, q.respond_by, q.request_id
