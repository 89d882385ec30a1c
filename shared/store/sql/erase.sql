/* relaytrace: erase */
-- Erases envelopes, as the owner: one batch, in the order of requests. Only of what is decided, and whose decision its
-- agent has, or is not going to get without an administrator. Digests, chain, decision and receipt stay.
--
-- $1 submitted and decided before, $2 at most so many, $3 after this request, $4 whether to count only
WITH candidates AS MATERIALIZED (
    SELECT e.request_id FROM request_envelopes e
    WHERE e.request_id > $3 AND e.request_id < first_uuid_at($1)
    ORDER BY e.request_id LIMIT $2
), due AS MATERIALIZED (
    SELECT c.request_id, h.tenant_id
    FROM candidates c
    JOIN hitl_decisions h ON h.request_id = c.request_id AND h.decided_at < $1
    JOIN deliveries d ON d.request_id = c.request_id AND d.state IN ('acknowledged', 'dead_lettered')
), erased AS (
    DELETE FROM request_envelopes e USING due WHERE e.request_id = due.request_id AND NOT $4
    RETURNING due.tenant_id
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, action, subject, details)
    SELECT tenant_id, now(), 'system', 'erase', 'envelopes.erased', 'envelopes',
        jsonb_build_object('count', count(*), 'before', $1)
    FROM erased GROUP BY tenant_id
)
SELECT (SELECT count(*) FROM due) AS "count!",
    (SELECT c.request_id FROM candidates c ORDER BY c.request_id DESC LIMIT 1) AS last
