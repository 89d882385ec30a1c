/* relaytrace: gauges */
-- What stands in the tables of all tenants, each number counted up to $1: the work does not grow with them. The oldest
-- request of a priority is the oldest of those that are counted, by the time in its id.
SELECT 'pending' AS "what!", 'P' || p.priority AS "name!", r.count AS "count!", r.oldest AS "oldest: RequestId"
FROM (VALUES (1::smallint), (2::smallint), (3::smallint)) AS p (priority)
CROSS JOIN LATERAL (
    SELECT count(*) AS count, min(q.request_id::text COLLATE "C")::uuid AS oldest
    FROM (
        SELECT h.request_id FROM hitl_requests h
        WHERE h.status = 'pending' AND h.priority = p.priority
        ORDER BY h.respond_by LIMIT $1::bigint
    ) q
) r
UNION ALL
SELECT 'outbox', '', (SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) o), NULL
UNION ALL
SELECT 'dead_letters', k.kind, (
        SELECT count(*) FROM (
            SELECT FROM dead_letters x WHERE x.resolved_at IS NULL AND x.kind = k.kind LIMIT $1
        ) open
    ), NULL
FROM (VALUES ('delivery'), ('event'), ('sweep'), ('notification')) AS k (kind)
