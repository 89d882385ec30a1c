/* relaytrace: count_pending */
-- Lets an agent's caps count what it has pending already, a batch of it.
--
-- $1 agent_id, $2 at most so many
WITH uncounted AS (
    SELECT r.request_id FROM hitl_requests r
    WHERE r.status = 'pending' AND r.agent_id = $1 AND NOT r.counted
    ORDER BY r.request_id LIMIT $2
    FOR NO KEY UPDATE
), counted AS (
    UPDATE hitl_requests r SET counted = true FROM uncounted u
    WHERE r.request_id = u.request_id AND r.status = 'pending' AND NOT r.counted
    RETURNING r.priority
), caps AS (
    -- Requests before the counter, as everywhere; and the counter locked before anything is computed from it.
    SELECT c.agent_id, c.pending + t.pending AS pending, c.pending_p1 + t.pending_p1 AS pending_p1
    FROM (
        SELECT count(*)::integer AS pending, (count(*) FILTER (WHERE priority = 1))::integer AS pending_p1
        FROM counted
    ) t
    JOIN agent_caps c ON c.agent_id = $1
    WHERE t.pending > 0
    FOR NO KEY UPDATE OF c
), added AS (
    UPDATE agent_caps c SET pending = l.pending, pending_p1 = l.pending_p1 FROM caps l WHERE c.agent_id = l.agent_id
)
SELECT count(*) AS "count!" FROM uncounted
