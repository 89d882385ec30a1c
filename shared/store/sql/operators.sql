/* relaytrace: operators */
-- Known operators of a tenant in the order of their ids: those whose id, name, address or group has the text in it, within
-- the next $5 of them.
--
-- $1 tenant_id, $2 after this id, $3 text in lower case (null: any), $4 at most so many, $5 looked through at the most
WITH looked AS MATERIALIZED (
    SELECT * FROM operators WHERE tenant_id = $1 AND operator_id > $2 ORDER BY operator_id LIMIT $5::bigint
), last AS (
    -- Where the search has to go on, if there may be more.
    SELECT max(operator_id) AS operator_id FROM looked HAVING count(*) = $5
)
SELECT l.operator_id AS "operator_id?", l.name, l.email, l.groups AS "groups?", l.status AS "status?",
    l.first_seen_at AS "first_seen_at?", l.seen_at AS "seen_at?", l.blocked_at, l.blocked_by,
    (SELECT operator_id FROM last) AS looked_until
FROM (SELECT) one
LEFT JOIN LATERAL (
    SELECT * FROM looked o
    WHERE $3::text IS NULL
        OR strpos(lower(o.operator_id), $3) > 0 OR strpos(lower(o.name), $3) > 0 OR strpos(lower(o.email), $3) > 0
        OR EXISTS (SELECT FROM unnest(o.groups) g WHERE strpos(lower(g), $3) > 0)
    ORDER BY o.operator_id LIMIT $4::bigint
) l ON true
ORDER BY l.operator_id
