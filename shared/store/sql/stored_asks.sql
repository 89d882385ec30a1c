/* relaytrace: stored_asks */
-- Requests of a tenant for a draft of rules to be tried on: what each asked, and what became of it, the newest first. There
-- is always a row; without a request where the page is empty.
--
-- Ids are in the order of time, so that the primary key serves the range; an id and `created_at` come from two clocks.
--
-- $1 tenant_id, $2 first id, $3 before this id, $4 from, $5 to (exclusive) of the submission, $6 requests of all tenants
-- that are looked through at most, $7 at most so many, $8 bytes of envelopes after which a page ends
WITH sized AS MATERIALIZED (
    SELECT l.*, row_number() OVER newest AS place,
        sum(l.bytes) OVER (newest ROWS UNBOUNDED PRECEDING) AS bytes_so_far
    FROM (
        SELECT l.request_id, l.agent_id, l.action_type, l.group_key, l.on_behalf_of, l.protocol,
            -- The size is known without reading the envelope.
            (SELECT octet_length(e.envelope) FROM request_envelopes e WHERE e.request_id = l.request_id) AS bytes
        FROM (
            SELECT r.* FROM hitl_requests r
            WHERE r.request_id >= $2 AND r.request_id < $3
            ORDER BY r.request_id DESC LIMIT $6
        ) l
        WHERE l.tenant_id = $1 AND l.created_at >= $4 AND l.created_at < $5
        ORDER BY l.request_id DESC LIMIT $7::bigint + 1
    ) l
    WINDOW newest AS (ORDER BY l.request_id DESC)
)
SELECT s.request_id AS "request_id?: RequestId", s.agent_id AS "agent_id?: AgentId", s.action_type AS "action_type?",
    s.group_key AS "group?", s.on_behalf_of AS "on_behalf_of?", s.protocol AS "protocol?: Protocol",
    e.envelope AS "envelope?", c.entry AS "submitted?", d.outcome AS "outcome?: Outcome", d.cause AS "cause?: Cause",
    n.has_more AS "has_more!", n.looked_to AS "looked_to?: RequestId"
FROM (
    SELECT EXISTS (SELECT FROM sized s WHERE s.place > $7 OR (s.place > 1 AND s.bytes_so_far > $8::bigint)) AS has_more,
        -- Where looking ended before the range did.
        (
            SELECT r.request_id FROM hitl_requests r
            WHERE r.request_id >= $2 AND r.request_id < $3 AND NOT EXISTS (SELECT FROM sized s WHERE s.place > $7)
            ORDER BY r.request_id DESC OFFSET $6 - 1 LIMIT 1
        ) AS looked_to
) n
LEFT JOIN sized s ON s.place <= $7 AND (s.place = 1 OR COALESCE(s.bytes_so_far, 0) <= $8)
-- One look-up for each request of the page, also where a table is small.
LEFT JOIN LATERAL (SELECT * FROM request_envelopes e WHERE e.request_id = s.request_id LIMIT 1) e ON true
LEFT JOIN LATERAL (SELECT * FROM hitl_decisions d WHERE d.request_id = s.request_id LIMIT 1) d ON true
-- A bridge asks with a priority that its envelope does not have.
LEFT JOIN LATERAL (
    SELECT c.entry FROM approval_chain c
    WHERE c.request_id = s.request_id AND c.seq = 1 AND s.protocol IS NOT NULL LIMIT 1
) c ON true
ORDER BY s.request_id DESC
