/* relaytrace: lease */
-- Leases decisions that are due to a poll. Concurrent polls get disjoint sets.
--
-- $1 now (null: the database's clock), $2 key_id, $3 agent_id, $4 at most so many, $5 only these requests (null: any),
-- $6 length of the lease in seconds, $7 after so many attempts a delivery is exhausted, $8 longest pause after a lease
-- that nobody acknowledged, in seconds, $9 nothing is due before (null: not known), $10 how far ahead the next one is
-- looked for, in seconds
WITH caller AS MATERIALIZED (
    -- Committed asynchronously: a lease that is lost in a crash is only a redelivery.
    SELECT k.agent_id, at_or_now($1) AS now, set_config('synchronous_commit', 'off', true)
    FROM active_keys k WHERE k.key_id = $2 AND k.agent_id = $3
), due_any AS (
    SELECT d.request_id, d.visible_at FROM deliveries d
    WHERE $5::uuid[] IS NULL AND EXISTS (SELECT FROM caller)
        AND d.agent_id = $3 AND d.state IN ('ready', 'leased') AND NOT d.named_only
        AND d.visible_at >= COALESCE($9::timestamptz, '-infinity') AND d.visible_at <= at_or_now($1)
        AND d.expires_at > at_or_now($1)
    ORDER BY d.visible_at LIMIT $4::bigint
    FOR NO KEY UPDATE SKIP LOCKED
), due_named AS (
    -- By the primary key, whatever else is due: with these words the state does not imply what deliveries_due holds,
    -- so that no plan takes that index.
    SELECT d.request_id, d.visible_at FROM deliveries d
    WHERE d.request_id = ANY ($5) AND EXISTS (SELECT FROM caller)
        AND d.agent_id = $3 AND d.state NOT IN ('acknowledged', 'dead_lettered')
        AND d.visible_at <= at_or_now($1) AND d.expires_at > at_or_now($1)
    ORDER BY d.visible_at LIMIT $4
    FOR NO KEY UPDATE SKIP LOCKED
), due AS MATERIALIZED (
    SELECT request_id, visible_at FROM due_any UNION ALL SELECT request_id, visible_at FROM due_named
), sized AS MATERIALIZED (
    -- An answer stays under 1 MB: what would exceed it is for the next poll. An erased envelope has no row any more.
    SELECT d.request_id, r.client_request_key, r.action_type, r.permit_expires_at, a.entry, a.prev_hash, a.hash, e.resume,
        w.action AS written_action, w.response AS written_response, s.entry AS submitted, s.hash AS submitted_hash,
        a.at < (SELECT t.attested_from FROM attestation_start t) AS is_from_before,
        row_number() OVER (ORDER BY d.visible_at, d.request_id) AS number,
        sum(2000 + 3 * octet_length(a.entry) + COALESCE(octet_length(e.resume), 0)
                + COALESCE(octet_length(w.action), 0) + COALESCE(octet_length(w.response), 0))
            OVER (ORDER BY d.visible_at, d.request_id) AS size
    FROM due d
    JOIN hitl_requests r ON r.request_id = d.request_id
    JOIN hitl_decisions h ON h.request_id = d.request_id
    JOIN approval_chain a ON a.request_id = d.request_id AND a.seq = h.chain_seq AND a.kind = 'decided'
    JOIN approval_chain s ON s.request_id = d.request_id AND s.seq = 1
    LEFT JOIN request_envelopes e ON e.request_id = d.request_id
    -- Of a plain answer the key is null: nothing is looked for.
    LEFT JOIN decision_values w ON w.request_id = d.request_id
        AND w.seq = CASE WHEN h.edited IS NOT NULL OR h.outcome = 'responded' THEN h.chain_seq END
), leased AS (
    UPDATE deliveries d
    SET state = 'leased', attempt = d.attempt + 1, delivery_id = gen_random_uuid(), result = NULL,
        lease_expires_at = c.now + make_interval(secs => $6::double precision),
        visible_at = c.now + make_interval(secs => $6 + CASE
            WHEN d.attempt + 1 >= $7::integer THEN 0
            ELSE random() * LEAST($8::double precision, 2.0 ^ LEAST(d.attempt, 20))
        END),
        expires_at = CASE
            WHEN d.attempt + 1 >= $7 THEN LEAST(d.expires_at, c.now + make_interval(secs => $6))
            ELSE d.expires_at
        END
    FROM sized s, caller c
    WHERE d.request_id = s.request_id AND s.number <= $4 AND (s.number = 1 OR s.size <= 900000)
    RETURNING d.attempt, d.replayed, d.delivery_id, d.lease_expires_at, s.request_id, s.client_request_key,
        s.action_type, s.entry, s.prev_hash, s.hash, s.submitted, s.submitted_hash, s.is_from_before, s.resume,
        s.written_action, s.written_response, s.number, s.permit_expires_at
), polled AS (
    -- Looked at first: even a refused ON CONFLICT update locks the row and writes.
    INSERT INTO agent_polls AS p (agent_id, last_polled_at)
    SELECT c.agent_id, c.now FROM caller c
    WHERE NOT EXISTS (
        SELECT FROM agent_polls p WHERE p.agent_id = c.agent_id AND p.last_polled_at > c.now - interval '5 seconds'
    )
    ON CONFLICT (agent_id) DO UPDATE SET last_polled_at = GREATEST(p.last_polled_at, excluded.last_polled_at)
)
SELECT c.now AS "now!",
    CASE
        WHEN (SELECT count(*) FROM leased) < (SELECT count(*) FROM due) THEN true
        WHEN (SELECT count(*) FROM leased) < $4 THEN false
        -- Looked at, not locked: a row locked here and not taken would look taken to others.
        WHEN $5 IS NULL THEN EXISTS (
            SELECT FROM deliveries m
            WHERE m.agent_id = $3 AND m.state IN ('ready', 'leased') AND NOT m.named_only
                AND m.visible_at >= COALESCE($9, '-infinity') AND m.visible_at <= at_or_now($1)
                AND m.expires_at > at_or_now($1)
                AND m.request_id NOT IN (SELECT request_id FROM due)
        )
        ELSE EXISTS (
            SELECT FROM deliveries m
            WHERE m.request_id = ANY ($5) AND m.agent_id = $3 AND m.state NOT IN ('acknowledged', 'dead_lettered')
                AND m.visible_at <= at_or_now($1) AND m.expires_at > at_or_now($1)
                AND m.request_id NOT IN (SELECT request_id FROM due)
        )
    END AS "has_more!",
    CASE
        WHEN l.request_id IS NOT NULL THEN NULL
        WHEN $5 IS NULL THEN (
            SELECT n.visible_at FROM deliveries n
            WHERE n.agent_id = $3 AND n.state IN ('ready', 'leased') AND NOT n.named_only
                AND n.visible_at > at_or_now($1)
                AND n.visible_at <= at_or_now($1) + make_interval(secs => $10::double precision)
            ORDER BY n.visible_at LIMIT 1
        )
        ELSE (
            SELECT min(n.visible_at) FROM deliveries n
            WHERE n.request_id = ANY ($5) AND n.agent_id = $3 AND n.state NOT IN ('acknowledged', 'dead_lettered')
                AND n.visible_at > at_or_now($1) AND n.visible_at <= at_or_now($1) + make_interval(secs => $10)
        )
    END AS next_visible_at,
    -- As it was before this statement, held by another or not: what the next scan may start from. A poll with names
    -- has not looked.
    CASE WHEN $5 IS NULL THEN (
        SELECT f.visible_at FROM deliveries f
        WHERE f.agent_id = $3 AND f.state IN ('ready', 'leased') AND NOT f.named_only
            AND f.visible_at >= COALESCE($9, '-infinity') AND f.visible_at <= at_or_now($1)
        ORDER BY f.visible_at LIMIT 1
    ) END AS first_visible_at,
    l.request_id AS "request_id?: RequestId", l.attempt AS "attempt?", l.replayed AS "replayed?",
    l.delivery_id, l.lease_expires_at,
    l.client_request_key AS "client_request_key?: ClientRequestKey", l.action_type AS "action_type?",
    l.entry AS "entry?", l.prev_hash AS "prev_hash?", l.hash AS "hash?", l.resume,
    l.written_action AS "written_action?", l.written_response AS "written_response?",
    l.submitted AS "submitted?", l.submitted_hash AS "submitted_hash?", l.is_from_before AS "is_from_before?",
    l.permit_expires_at
FROM caller c
LEFT JOIN leased l ON true
ORDER BY l.number
