/* relaytrace: sla */
-- How the requests that were submitted in a period were answered, the most asked first.
--
-- $1 tenant_id, $2 from, $3 to (exclusive), $4 priority, agent, group or operator, $5 requests looked through at the most,
-- $6 lines at the most
WITH waiting AS MATERIALIZED (
    -- By the queue's index, in its order: it is as long as what is pending now, whatever was asked before.
    SELECT r.request_id, r.priority, r.agent_id, r.assigned_groups, r.created_at, r.respond_by
    FROM hitl_requests r
    WHERE r.tenant_id = $1 AND r.status = 'pending' AND r.created_at >= $2 AND r.created_at < $3
    ORDER BY r.priority, r.respond_by, r.request_id LIMIT $5::bigint
), decided AS MATERIALIZED (
    -- By the tenant's own decisions: none is earlier than its request, but for two clocks. An id begins with its time.
    SELECT d.request_id, d.decided_by_kind, d.decided_by_id, d.outcome, d.cause, d.decided_at
    FROM hitl_decisions d
    WHERE d.tenant_id = $1 AND d.decided_at >= $2::timestamptz - interval '1 minute'
        AND d.request_id >= first_uuid_at($2::timestamptz - interval '1 minute')
        AND d.request_id < first_uuid_at($3::timestamptz + interval '1 minute')
    ORDER BY d.decided_at LIMIT $5::bigint
), judged AS (
    SELECT w.request_id, w.priority, w.agent_id, w.assigned_groups, NULL AS operator_id, 'pending' AS fate,
        NULL::double precision AS seconds
    FROM waiting w
    UNION ALL
    SELECT r.request_id, r.priority, r.agent_id, r.assigned_groups,
        CASE WHEN d.decided_by_kind = 'operator' THEN d.decided_by_id END,
        CASE
            WHEN d.outcome = 'cancelled' THEN 'cancelled'
            WHEN d.cause = 'timeout' OR d.decided_at >= r.respond_by THEN 'timed_out'
            ELSE 'in_time'
        END,
        -- How long people take: a rule takes no time at all.
        CASE WHEN d.cause <> 'policy' THEN extract(epoch FROM d.decided_at - r.created_at)::double precision END
    FROM decided d JOIN hitl_requests r ON r.request_id = d.request_id
    WHERE r.created_at >= $2 AND r.created_at < $3
), keyed AS (
    SELECT CASE $4::text
            WHEN 'priority' THEN 'P' || j.priority
            WHEN 'agent' THEN j.agent_id
            WHEN 'operator' THEN j.operator_id
            ELSE g.name
        END AS key, j.fate, j.seconds
    FROM judged j
    LEFT JOIN LATERAL unnest(j.assigned_groups) AS g (name) ON $4 = 'group'
), lines AS (
    SELECT k.key, count(*) AS asked, count(*) FILTER (WHERE k.fate = 'in_time') AS decided_in_time,
        count(*) FILTER (WHERE k.fate = 'timed_out') AS timed_out,
        count(*) FILTER (WHERE k.fate = 'cancelled') AS cancelled,
        count(*) FILTER (WHERE k.fate = 'pending') AS pending,
        -- Without those that have no seconds: null where none has.
        percentile_cont(0.5) WITHIN GROUP (ORDER BY k.seconds) FILTER (WHERE k.fate = 'in_time') AS p50_seconds,
        percentile_cont(0.9) WITHIN GROUP (ORDER BY k.seconds) FILTER (WHERE k.fate = 'in_time') AS p90_seconds
    FROM keyed k
    GROUP BY k.key
    ORDER BY count(*) DESC, k.key LIMIT $6::bigint
)
-- One row at least, so that it is always known how much was looked through.
SELECT l.key AS "key?", COALESCE(l.asked, 0) AS "asked!", COALESCE(l.decided_in_time, 0) AS "decided_in_time!",
    COALESCE(l.timed_out, 0) AS "timed_out!", COALESCE(l.cancelled, 0) AS "cancelled!", COALESCE(l.pending, 0) AS "pending!",
    l.p50_seconds AS "p50_seconds?", l.p90_seconds AS "p90_seconds?", s.looked_through AS "looked_through!"
FROM (SELECT (SELECT count(*) FROM waiting) + (SELECT count(*) FROM decided) AS looked_through) s
LEFT JOIN lines l ON true
ORDER BY l.asked DESC, l.key
