/* relaytrace: stale */
-- What is stale, the longest first.
--
-- $1 now (null: the database's clock), $2 share of its time after which a pending request is stale, in percent,
-- $3 minutes after which an unacknowledged delivery and a silent agent are, $4 to $6 after this time, reason and key
-- (null: from the start), $7 at most so many, $8 tenant_id
WITH timed AS (
    SELECT at_or_now($1) AS now, make_interval(mins => $3::integer) AS patience
), waiting AS (
    -- The newest chain entry of an undelivered decision is what made it ready.
    SELECT d.request_id, d.agent_id, d.delivery_id, r.changed_at AS since
    FROM deliveries d JOIN hitl_requests r USING (request_id), timed t
    -- The tenant in these words: no plan begins with all of its requests.
    WHERE d.state IN ('ready', 'leased') AND r.changed_at <= t.now - t.patience AND r.tenant_id = COALESCE($8, r.tenant_id)
), stale AS (
    SELECT 'pending' AS why, r.created_at + (r.respond_by - r.created_at) * $2::integer / 100 AS since,
        r.request_id::text AS key, r.agent_id, r.request_id, r.respond_by, NULL::uuid AS delivery_id,
        NULL::uuid AS dead_letter_id
    FROM hitl_requests r, timed t
    WHERE r.status = 'pending' AND r.tenant_id = $8
        AND r.created_at + (r.respond_by - r.created_at) * $2 / 100 <= t.now
    UNION ALL
    SELECT 'unacknowledged', w.since, w.request_id::text, w.agent_id, w.request_id, NULL,
        w.delivery_id, NULL
    FROM waiting w
    UNION ALL
    SELECT 'dead_lettered', x.last_at, x.dead_letter_id::text, x.agent_id, x.request_id, NULL, NULL,
        x.dead_letter_id
    FROM dead_letters x WHERE x.resolved_at IS NULL AND x.tenant_id = $8
    UNION ALL
    SELECT 'not_polling', GREATEST(p.last_polled_at, w.since), w.agent_id, w.agent_id, NULL, NULL, NULL,
        NULL
    FROM (SELECT agent_id, min(since) AS since FROM waiting GROUP BY agent_id) w
    CROSS JOIN timed t
    LEFT JOIN agent_polls p USING (agent_id)
    WHERE p.last_polled_at IS NULL OR p.last_polled_at <= t.now - t.patience
    UNION ALL
    -- By the time at which it is forgotten, a week later: in order, and no more than a page of it.
    SELECT 'outcome_unknown', u.unknown_at, u.key, u.agent_id, u.request_id, NULL, NULL, NULL
    FROM (
        SELECT o.unknown_at, o.request_id::text AS key, r.agent_id, o.request_id
        FROM outcomes_due o JOIN hitl_requests r USING (request_id)
        WHERE o.unknown_at IS NOT NULL AND r.tenant_id = COALESCE($8, r.tenant_id)
            AND o.due_at > (SELECT t.now FROM timed t)
            AND ($4::timestamptz IS NULL OR o.due_at >= $4 + interval '7 days'
                AND (o.unknown_at, 'outcome_unknown', o.request_id::text) > ($4, $5::text, $6::text))
        ORDER BY o.due_at, o.request_id LIMIT $7
    ) u
)
SELECT why AS "why!: StaleReason", since AS "since!", key AS "key!", agent_id AS "agent_id: AgentId",
    request_id AS "request_id: RequestId", respond_by, delivery_id, dead_letter_id
FROM stale
WHERE $4::timestamptz IS NULL OR (since, why, key) > ($4, $5::text, $6::text)
ORDER BY since, why, key LIMIT $7
