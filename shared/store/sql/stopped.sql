/* relaytrace: stopped */
-- Pending requests that a stop covers: what decide.sql is to be asked. The lock skips rows that somebody else is deciding;
-- it ends with this statement, so decide.sql looks at each again, and at the stop. Where no stop is in force nothing is
-- scanned; else what is pending is.
--
-- $1 now (null: the database's clock), $2 at most so many of each priority, $3 only this request (null: any)
WITH stops AS MATERIALIZED (
    SELECT f.tenant_id, f.freeze_id, f.agent_id, f.action_type, f.reason, f.created_at
    FROM tenants t JOIN freezes f ON f.tenant_id = t.tenant_id AND f.ends_at > at_or_now($1) AND f.mode = 'stop'
)
SELECT r.request_id AS "request_id!: RequestId", r.action_digest AS "action_digest!", s.tenant_id AS "tenant_id!: TenantId",
    s.freeze_id AS "freeze_id!: FreezeId", s.reason AS "reason!"
FROM (VALUES (1::smallint), (2::smallint), (3::smallint)) AS p (priority)
CROSS JOIN LATERAL (
    SELECT r.request_id, r.action_digest, r.tenant_id, r.agent_id, r.action_type
    FROM hitl_requests r
    WHERE r.status = 'pending' AND r.priority = p.priority
        AND EXISTS (SELECT FROM stops)
        AND EXISTS (
            SELECT FROM stops s
            WHERE s.tenant_id = r.tenant_id AND (s.agent_id IS NULL OR s.agent_id = r.agent_id)
                AND (s.action_type IS NULL OR s.action_type = r.action_type)
        )
        AND ($3::uuid IS NULL OR r.request_id = $3)
        AND NOT EXISTS (
            SELECT FROM sweep_failures f
            WHERE f.part = 'stop' AND f.request_id = r.request_id AND f.retry_at > at_or_now($1)
        )
    ORDER BY r.respond_by LIMIT $2
    FOR NO KEY UPDATE OF r SKIP LOCKED
) r
CROSS JOIN LATERAL (
    -- The first that covers it.
    SELECT s.tenant_id, s.freeze_id, s.reason FROM stops s
    WHERE s.tenant_id = r.tenant_id AND (s.agent_id IS NULL OR s.agent_id = r.agent_id)
        AND (s.action_type IS NULL OR s.action_type = r.action_type)
    ORDER BY s.created_at, s.freeze_id LIMIT 1
) s
