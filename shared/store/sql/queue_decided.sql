/* relaytrace: queue_decided */
-- A page of what was decided, the newest decision first.
--   $1 time and $2 id of the item before the page; NULL for the first page
--   $3 items wanted, $4 decisions looked through
--   $5 from, $6 to (exclusive), of the decision
--   $7 priorities
--   $8 agents, $9 action types, $10 outcomes, $11 ids of who decided, $12 delivery states; NULL admits all
--   $13 patterns that must all be found, $14 bytes of envelopes looked through
--   $15 groups of requests; $16 operator and $17 groups of operators that it is assigned to; NULL admits all
--   $18 now, NULL for the database's clock; $19 tenant
SELECT r.request_id AS "request_id!: RequestId", r.agent_id AS "agent_id!: AgentId", r.title AS "title!",
    r.priority AS "priority!: Priority", r.status AS "status!: Status", r.action_type AS "action_type!",
    r.created_at AS "created_at!", r.respond_by AS "respond_by!", r.escalated_at, r.group_key,
    d.outcome AS "outcome?: Outcome", d.cause AS "cause?: Cause", d.decided_at AS "decided_at?",
    d.decided_by_kind AS "decided_by_kind?: ActorKind", d.decided_by_id AS "decided_by_id?", d.decided_by_name,
    d.decided_for AS "decided_for?", d.decided_for_name, r.assigned_groups, r.assigned_operators,
    -- A decision has released it.
    NULL::text AS claimed_by, NULL::text AS claimed_by_name, NULL::timestamptz AS claimed_until,
    v.state AS "delivery_state?: DeliveryState", v.result AS "delivery_result?", v.error_code, v.error_message,
    COALESCE(r.execution, CASE
        WHEN d.outcome IS DISTINCT FROM 'approved' OR r.permit_expires_at IS NULL THEN 'none'
        WHEN at_or_now($18) >= r.permit_expires_at THEN 'unused'
        -- A stop has revoked it, at the latest by its end.
        WHEN EXISTS (
            SELECT FROM freezes f
            WHERE f.tenant_id = r.tenant_id AND f.ends_at > d.decided_at AND f.mode = 'stop'
                AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
                AND (f.action_type IS NULL OR f.action_type = r.action_type)
        ) THEN 'unused'
        ELSE 'waiting'
    END) AS "execution!: Execution"
FROM (
    SELECT d.*, sum(d.bytes) OVER (ORDER BY d.decided_at DESC, d.request_id DESC ROWS UNBOUNDED PRECEDING) AS bytes_so_far
    FROM (
        SELECT d.request_id, d.outcome, d.cause, d.decided_at, d.decided_by_kind, d.decided_by_id, d.decided_by_name,
            d.decided_for, d.decided_for_name,
            -- The size is known without reading the envelope.
            CASE WHEN $13::text[] IS NOT NULL THEN (
                SELECT octet_length(e.envelope) FROM request_envelopes e WHERE e.request_id = d.request_id
            ) END AS bytes
        FROM hitl_decisions d
        WHERE d.tenant_id = $19
            AND (d.decided_at, d.request_id) < (
                COALESCE($1::timestamptz, 'infinity'), COALESCE($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND d.decided_at >= COALESCE($5::timestamptz, '-infinity')
            AND d.decided_at < COALESCE($6::timestamptz, 'infinity')
        ORDER BY d.decided_at DESC, d.request_id DESC
        LIMIT $4::bigint
    ) d
) d
JOIN hitl_requests r ON r.request_id = d.request_id
LEFT JOIN deliveries v ON v.request_id = d.request_id
WHERE r.priority = ANY ($7::smallint[])
    AND ($8::text[] IS NULL OR r.agent_id = ANY ($8))
    AND ($9::text[] IS NULL OR r.action_type = ANY ($9))
    AND ($10::text[] IS NULL OR d.outcome = ANY ($10))
    AND ($11::text[] IS NULL OR d.decided_by_id = ANY ($11))
    AND ($12::text[] IS NULL OR v.state = ANY ($12))
    AND ($15::text[] IS NULL OR r.group_key = ANY ($15))
    AND ($16::text IS NULL OR $16 = ANY (r.assigned_operators) OR r.assigned_groups && $17::text[])
    AND ($13 IS NULL
        OR concat_ws(E'\n', r.title, r.action_type, r.client_request_key, r.agent_id, r.request_id) ILIKE ALL ($13)
        OR (d.bytes_so_far <= $14::bigint AND concat_ws(E'\n', r.title, r.action_type, r.client_request_key,
            r.agent_id, r.request_id, (
                SELECT searchable_arguments(e.envelope) FROM request_envelopes e WHERE e.request_id = r.request_id
            )) ILIKE ALL ($13)))
ORDER BY d.decided_at DESC, d.request_id DESC
LIMIT $3::bigint
