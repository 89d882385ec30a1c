/* relaytrace: sla */
-- How the requests that were submitted in a period were answered, the most asked first.
--
-- $1 tenant_id, $2 from, $3 to (exclusive), $4 priority, agent, group or operator, $5 requests looked through at the most,
-- $6 lines at the most
WITH asked AS MATERIALIZED (
    -- By the primary key: an id begins with its time, by the clock of the process that made it.
    SELECT r.request_id, r.priority, r.agent_id, r.assigned_groups, r.created_at, r.respond_by
    FROM hitl_requests r
    WHERE r.request_id >= first_uuid_at($2::timestamptz - interval '1 minute')
        AND r.request_id < first_uuid_at($3::timestamptz + interval '1 minute')
        AND r.created_at >= $2 AND r.created_at < $3 AND r.tenant_id = $1
    LIMIT $5::bigint
), judged AS (
    SELECT a.request_id, a.priority, a.agent_id, a.assigned_groups,
        CASE WHEN d.decided_by_kind = 'operator' THEN d.decided_by_id END AS operator_id,
        CASE
            WHEN d.request_id IS NULL THEN 'pending'
            WHEN d.outcome = 'cancelled' THEN 'cancelled'
            WHEN d.cause = 'timeout' OR d.decided_at >= a.respond_by THEN 'timed_out'
            ELSE 'in_time'
        END AS fate,
        extract(epoch FROM d.decided_at - a.created_at)::double precision AS seconds
    FROM asked a LEFT JOIN hitl_decisions d ON d.request_id = a.request_id
), keyed AS (
    SELECT CASE $4::text
            WHEN 'priority' THEN 'P' || j.priority
            WHEN 'agent' THEN j.agent_id
            WHEN 'operator' THEN j.operator_id
            ELSE g.name
        END AS key, j.fate, j.seconds
    FROM judged j
    LEFT JOIN LATERAL unnest(j.assigned_groups) AS g (name) ON $4 = 'group'
)
SELECT k.key, count(*) AS "asked!", count(*) FILTER (WHERE k.fate = 'in_time') AS "decided_in_time!",
    count(*) FILTER (WHERE k.fate = 'timed_out') AS "timed_out!",
    count(*) FILTER (WHERE k.fate = 'cancelled') AS "cancelled!",
    count(*) FILTER (WHERE k.fate = 'pending') AS "pending!",
    percentile_cont(0.5) WITHIN GROUP (ORDER BY k.seconds) FILTER (WHERE k.fate = 'in_time') AS p50_seconds,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY k.seconds) FILTER (WHERE k.fate = 'in_time') AS p90_seconds,
    (SELECT count(*) FROM asked) AS "looked_through!"
FROM keyed k
GROUP BY k.key
ORDER BY count(*) DESC, k.key LIMIT $6::bigint
