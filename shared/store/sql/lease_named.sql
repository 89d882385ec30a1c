/* relaytrace: lease_named */
-- The same as `lease` for polls that name their requests; none comes twice in one statement. By the primary key, whatever
-- else is due for the agent.
--
-- $1 now (null: the database's clock)
-- Arrays, one element for each poll: $2 key_id, $3 agent_id, $4 at most so many, $5 how far ahead the next one is looked
-- for, in seconds, $6 and $7 where its names begin and end in $8; one element for each name: $8 request_id
-- $9 length of the lease in seconds, $10 after so many attempts a delivery is exhausted, $11 longest pause after a lease
-- that nobody acknowledged, in seconds
WITH polls AS MATERIALIZED (
    -- Committed asynchronously: a lease that is lost in a crash is only a redelivery.
    SELECT i.number, i.agent_id, i.most, i.ahead, i.first, i.last, at_or_now($1) AS now,
        set_config('synchronous_commit', 'off', true)
    FROM UNNEST($2::text[], $3::text[], $4::bigint[], $5::double precision[], $6::integer[], $7::integer[])
        WITH ORDINALITY AS i (key_id, agent_id, most, ahead, first, last, number)
    JOIN active_keys k ON k.key_id = i.key_id AND k.agent_id = i.agent_id
), due AS MATERIALIZED (
    SELECT p.number, p.most, p.now, d.request_id, d.visible_at
    FROM polls p
    CROSS JOIN LATERAL (
        -- With these words the state does not imply what deliveries_due holds, so that no plan takes that index.
        SELECT d.request_id, d.visible_at
        FROM UNNEST(($8::uuid[])[p.first:p.last]) AS n (request_id) JOIN deliveries d ON d.request_id = n.request_id
        WHERE d.agent_id = p.agent_id AND d.state NOT IN ('acknowledged', 'dead_lettered')
            AND d.visible_at <= p.now AND d.expires_at > p.now
        ORDER BY d.visible_at LIMIT p.most
        FOR NO KEY UPDATE OF d SKIP LOCKED
    ) d
), sized AS MATERIALIZED (
    -- An answer stays under 1 MB: what would exceed it is for the next poll.
    SELECT d.number AS poll, d.most, d.now, v.*, row_number() OVER of_poll AS place, sum(v.size) OVER of_poll AS total,
        count(*) OVER (PARTITION BY d.number) AS due
    FROM due d JOIN deliverables v ON v.request_id = d.request_id
    WINDOW of_poll AS (PARTITION BY d.number ORDER BY d.visible_at, d.request_id)
), leased AS (
    UPDATE deliveries d
    SET state = 'leased', attempt = d.attempt + 1, delivery_id = gen_random_uuid(), result = NULL,
        lease_expires_at = s.now + make_interval(secs => $9::double precision),
        visible_at = s.now + make_interval(secs => $9 + CASE
            WHEN d.attempt + 1 >= $10::integer THEN 0
            ELSE random() * LEAST($11::double precision, 2.0 ^ LEAST(d.attempt, 20))
        END),
        expires_at = CASE
            WHEN d.attempt + 1 >= $10 THEN LEAST(d.expires_at, s.now + make_interval(secs => $9))
            ELSE d.expires_at
        END
    FROM sized s
    WHERE d.request_id = s.request_id AND s.place <= s.most AND (s.place = 1 OR s.total <= 900000)
    RETURNING d.attempt, d.replayed, d.delivery_id, d.lease_expires_at, s.poll, s.place, s.due, s.request_id,
        s.client_request_key, s.action_type, s.entry, s.prev_hash, s.hash, s.submitted, s.submitted_hash,
        s.is_from_before, s.resume, s.written_action, s.written_response, s.permit_expires_at
), polled AS (
    -- Looked at first: even a refused ON CONFLICT update locks the row and writes.
    INSERT INTO agent_polls AS a (agent_id, last_polled_at)
    SELECT p.agent_id, p.now FROM (SELECT DISTINCT agent_id, now FROM polls) p
    WHERE NOT EXISTS (
        SELECT FROM agent_polls a WHERE a.agent_id = p.agent_id AND a.last_polled_at > p.now - interval '5 seconds'
    )
    ORDER BY p.agent_id
    ON CONFLICT (agent_id) DO UPDATE SET last_polled_at = GREATEST(a.last_polled_at, excluded.last_polled_at)
)
SELECT p.number AS "number!", p.now AS "now!",
    CASE
        WHEN count(l.request_id) OVER of_poll < l.due THEN true
        -- Nothing was left out for the limit.
        WHEN count(l.request_id) OVER of_poll < p.most OR p.last - p.first < p.most THEN false
        -- Looked at, not locked: a row locked here and not taken would look taken to others.
        ELSE EXISTS (
            SELECT FROM UNNEST(($8)[p.first:p.last]) AS i (request_id) JOIN deliveries m ON m.request_id = i.request_id
            WHERE m.agent_id = p.agent_id AND m.state NOT IN ('acknowledged', 'dead_lettered')
                AND m.visible_at <= p.now AND m.expires_at > p.now
                AND m.request_id NOT IN (SELECT request_id FROM due)
        )
    END AS "has_more!",
    CASE WHEN l.request_id IS NULL THEN (
        SELECT min(n.visible_at)
        FROM UNNEST(($8)[p.first:p.last]) AS i (request_id) JOIN deliveries n ON n.request_id = i.request_id
        WHERE n.agent_id = p.agent_id AND n.state NOT IN ('acknowledged', 'dead_lettered')
            AND n.visible_at > p.now AND n.visible_at <= p.now + make_interval(secs => p.ahead)
    ) END AS next_visible_at,
    -- It has not looked at what else is due.
    NULL::timestamptz AS first_visible_at,
    l.request_id AS "request_id?: RequestId", l.attempt AS "attempt?", l.replayed AS "replayed?",
    l.delivery_id, l.lease_expires_at,
    l.client_request_key AS "client_request_key?: ClientRequestKey", l.action_type AS "action_type?",
    l.entry AS "entry?", l.prev_hash AS "prev_hash?", l.hash AS "hash?", l.resume,
    l.written_action AS "written_action?", l.written_response AS "written_response?",
    l.submitted AS "submitted?", l.submitted_hash AS "submitted_hash?", l.is_from_before AS "is_from_before?",
    l.permit_expires_at
FROM polls p
LEFT JOIN leased l ON l.poll = p.number
WINDOW of_poll AS (PARTITION BY p.number)
ORDER BY p.number, l.place
