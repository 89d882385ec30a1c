/* relaytrace: submit_decided */
-- Stores submissions as requests that a rule has decided: each whole, with its decision, or not at all. A row that is not
-- returned inserted nothing: for what submit.sql does not, or because its rule may not decide it now. A freeze covers the
-- approval, or the rule has decided as often as it may; then people are asked. A second statement finds out what submit.sql
-- would refuse.
--
-- $1 to $22 as in submit.sql
-- $23 what rules decide, a JSON object by request_id (`decided_at_once.rs`)
-- $24 age in seconds at which a delivery is given up, $25 length of a lease in seconds, $26 after so many attempts a delivery
-- is exhausted, $27 longest pause after a lease, in seconds
WITH input AS (
    SELECT i.*, $23::jsonb -> i.request_id::text AS rule FROM UNNEST(
        $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::smallint[], $8::text[], $9::text[],
        $10::bytea[], $11::timestamptz[], $12::bytea[], $13::bytea[], $14::text[], $16::text[], $17::text[],
        $18::text[], $19::integer[], $21::text[], $22::bigint[]
    ) AS i (
        request_id, agent_id, key_id, client_request_key, fingerprint, priority, title, action_type,
        action_digest, requested_respond_by, envelope, resume, traceparent, answers, group_key, on_behalf_of,
        asked_permit_seconds, protocol, respond_within_seconds
    )
), timed AS (
    SELECT i.request_id, i.agent_id, i.key_id, i.client_request_key, i.fingerprint, i.priority, i.title, i.action_type,
        i.action_digest, i.envelope, i.resume, i.traceparent, i.answers, i.group_key, i.on_behalf_of, i.protocol, i.rule,
        COALESCE(
            i.requested_respond_by, at_or_now($1) + make_interval(secs => i.respond_within_seconds)
        ) AS requested_respond_by,
        k.tenant_id, at_or_now($1) AS created_at, at_or_clock($1) AS moment,
        p.policy_id, p.on_timeout, p.lowest_priority, p.consume_required,
        CASE WHEN i.asked_permit_seconds IS NULL THEN p.permit_seconds
            ELSE LEAST(i.asked_permit_seconds, COALESCE(p.permit_seconds, $20::double precision))::integer
        END AS permit_seconds,
        at_or_now($1) + make_interval(secs => p.respond_within_seconds) AS latest
    FROM input i
    -- By the version of the rules that stands, or not at all: who was behind starts again.
    JOIN active_keys k ON k.key_id = i.key_id AND k.agent_id = i.agent_id
        AND (k.rules_version = (i.rule ->> 'version')::integer OR i.rule ? 'is_last')
    CROSS JOIN LATERAL terms_of_asking(k.tenant_id, i.agent_id, i.action_type, i.priority) p
), wanted AS MATERIALIZED (
    SELECT t.*, row_number() OVER (PARTITION BY t.tenant_id, t.rule ->> 'name' ORDER BY t.request_id) AS place
    FROM timed t
    WHERE (
            t.requested_respond_by IS NULL
            OR (t.requested_respond_by > t.created_at AND (t.requested_respond_by <= t.latest OR t.protocol IS NOT NULL))
        )
        AND (t.lowest_priority IS NULL OR t.priority <= t.lowest_priority)
        -- A stop admits no approval, a hold none that no person made.
        AND (t.rule ->> 'outcome' <> 'approved' OR NOT EXISTS (
            SELECT FROM freezes f
            WHERE f.tenant_id = t.tenant_id AND f.ends_at > t.moment
                AND (f.agent_id IS NULL OR f.agent_id = t.agent_id)
                AND (f.action_type IS NULL OR f.action_type = t.action_type)
        ))
        -- What is repeated counts no use.
        AND NOT EXISTS (
            SELECT FROM request_dedupe d
            WHERE d.agent_id = t.agent_id AND d.client_request_key = t.client_request_key
                AND (d.expires_at > at_or_now($1) OR NOT EXISTS (
                    SELECT FROM hitl_decisions h
                    WHERE h.request_id = d.request_id AND h.decided_at <= at_or_now($1) - interval '24 hours'
                ))
        )
), counted AS (
    -- The row is locked, and counts as it then stands: of statements at the same time none grants what another did.
    INSERT INTO rule_uses AS u (tenant_id, rule_name, scope, most, per_seconds, started_at, uses, granted)
    SELECT w.tenant_id, w.rule ->> 'name', max(w.rule ->> 'scope'), max((w.rule ->> 'most')::integer), max((w.rule ->> 'per_seconds')::integer),
        max(w.moment), LEAST(count(*), max((w.rule ->> 'most')::integer)), LEAST(count(*), max((w.rule ->> 'most')::integer))
    FROM wanted w WHERE w.rule ? 'most'
    GROUP BY w.tenant_id, w.rule ->> 'name'
    ORDER BY w.tenant_id, w.rule ->> 'name'
    ON CONFLICT (tenant_id, rule_name) DO UPDATE
    SET scope = excluded.scope, most = excluded.most, per_seconds = excluded.per_seconds,
        started_at = CASE WHEN u.scope IS DISTINCT FROM excluded.scope
                OR u.started_at + make_interval(secs => excluded.per_seconds) <= excluded.started_at
            THEN excluded.started_at ELSE u.started_at END,
        uses = CASE WHEN u.scope IS DISTINCT FROM excluded.scope
                OR u.started_at + make_interval(secs => excluded.per_seconds) <= excluded.started_at
            THEN excluded.uses
            ELSE u.uses + LEAST(excluded.granted, GREATEST(excluded.most - u.uses, 0)) END,
        granted = CASE WHEN u.scope IS DISTINCT FROM excluded.scope
                OR u.started_at + make_interval(secs => excluded.per_seconds) <= excluded.started_at
            THEN excluded.granted
            ELSE LEAST(excluded.granted, GREATEST(excluded.most - u.uses, 0)) END
    RETURNING u.tenant_id, u.rule_name, u.granted
), admitted AS MATERIALIZED (
    SELECT w.* FROM wanted w
    LEFT JOIN counted c ON w.rule ? 'most' AND c.tenant_id = w.tenant_id AND c.rule_name = w.rule ->> 'name'
    WHERE NOT w.rule ? 'most' OR w.place <= c.granted
), accepted AS (
    INSERT INTO request_dedupe AS d (agent_id, client_request_key, fingerprint, request_id, expires_at)
    SELECT agent_id, client_request_key, fingerprint, request_id, created_at + make_interval(secs => $15::double precision)
    FROM admitted
    ORDER BY agent_id, client_request_key
    ON CONFLICT (agent_id, client_request_key) DO UPDATE
    SET fingerprint = excluded.fingerprint, request_id = excluded.request_id, expires_at = excluded.expires_at
    -- Kept as submit.sql keeps it.
    WHERE d.expires_at <= at_or_now($1)
        AND EXISTS (
            SELECT FROM hitl_decisions h
            WHERE h.request_id = d.request_id AND h.decided_at <= at_or_now($1) - interval '24 hours'
        )
    RETURNING d.request_id
), submitted AS MATERIALIZED (
    SELECT t.*, LEAST(t.latest, t.requested_respond_by) AS respond_by, GREATEST(t.created_at, t.moment) AS at,
        t.rule ->> 'outcome' AS outcome, (t.rule ->> 'delivery_id')::uuid AS delivery_id,
        t.protocol IS NULL AND t.rule ? 'delivery_id' AS is_leased,
        chain_genesis(t.request_id) AS prev_hash,
        chain_entry(t.request_id, 1, 'submitted', t.created_at, chain_actor('agent', t.agent_id, NULL),
            '"client_request_key":"' || t.client_request_key
            || '","action_type":"' || t.action_type
            || '","envelope_sha256":"' || digest_text(sha256(t.envelope))
            || '","action_digest":"' || digest_text(t.action_digest)
            || '","priority":"P' || t.priority
            || '","respond_by":"' || rfc3339(LEAST(t.latest, t.requested_respond_by))
            || '","policy_id":"' || t.policy_id || '","on_timeout":"' || t.on_timeout
            || '"' || COALESCE(',"permit_seconds":' || t.permit_seconds, '')
            || CASE WHEN t.consume_required THEN ',"consume":"required"' ELSE '' END
            || COALESCE(',"protocol":"' || t.protocol || '"', '')
            || ',' || (t.rule ->> 'entry')
            || ',"key_id":"' || t.key_id || '"') AS entry
    FROM admitted t JOIN accepted USING (request_id)
), linked AS MATERIALIZED (
    SELECT s.*, sha256(s.prev_hash || s.entry) AS hash,
        chain_entry(s.request_id, 2, 'decided', s.at, chain_actor('system', s.rule ->> 'actor', NULL),
            '"outcome":"' || s.outcome || '","cause":"policy","action_digest":"' || digest_text(s.action_digest)
            || '","reason":' || json_text(s.rule ->> 'reason') || ',"attestation":' || (s.rule ->> 'attestation')
        ) AS decided_entry,
        CASE WHEN s.outcome = 'approved'
            THEN s.at + make_interval(secs => COALESCE(s.permit_seconds, $20)) END AS permit_expires_at
    FROM submitted s
), decided AS MATERIALIZED (
    SELECT l.*, sha256(l.hash || l.decided_entry) AS head FROM linked l
), events AS MATERIALIZED (
    SELECT d.*, handoff_event('requested', d.request_id, 1, d.created_at, d.agent_id, d.client_request_key,
            d.priority, d.action_digest, d.hash, NULL, NULL, d.tenant_id) AS payload,
        handoff_event('decided', d.request_id, 2, d.at, d.agent_id, d.client_request_key, d.priority, d.action_digest,
            d.head, d.outcome, 'policy', d.tenant_id) AS decided_payload
    FROM decided d
), requests AS (
    -- It never waits for anybody: no cap counts it.
    INSERT INTO hitl_requests (
        request_id, tenant_id, agent_id, client_request_key, priority, title, action_type, action_digest, status,
        created_at, respond_by, requested_respond_by, on_timeout, changed_at, chain_length, chain_head, counted,
        permit_seconds, permit_expires_at, consume_required, answers, group_key, on_behalf_of, protocol, rules_version,
        rule_name
    )
    SELECT request_id, tenant_id, agent_id, client_request_key, priority, title, action_type, action_digest, 'decided',
        created_at, respond_by, requested_respond_by, on_timeout, at, 2, head, false, permit_seconds, permit_expires_at,
        consume_required, string_to_array(answers, ','), group_key, on_behalf_of, protocol,
        (rule ->> 'version')::integer, rule ->> 'name'
    FROM events
), groups AS (
    INSERT INTO request_groups (agent_id, group_key, request_id)
    SELECT agent_id, group_key, request_id FROM events WHERE group_key IS NOT NULL
), envelopes AS (
    INSERT INTO request_envelopes (request_id, envelope, resume)
    SELECT request_id, envelope, resume FROM events
), decisions AS (
    INSERT INTO hitl_decisions (
        request_id, tenant_id, outcome, cause, decided_by_kind, decided_by_id, reason, decided_at, chain_seq
    )
    SELECT request_id, tenant_id, outcome, 'policy', 'system', rule ->> 'actor', rule ->> 'reason', at, 2 FROM events
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, 1, 'submitted', created_at, entry, prev_hash, hash FROM events
    UNION ALL
    SELECT request_id, 2, 'decided', at, decided_entry, hash, head FROM events
), delivered AS (
    INSERT INTO deliveries (
        request_id, agent_id, state, attempt, delivery_id, lease_expires_at, visible_at, expires_at, named_only
    )
    SELECT request_id, agent_id, CASE WHEN is_leased THEN 'leased' ELSE 'ready' END, is_leased::integer,
        CASE WHEN is_leased THEN delivery_id END,
        CASE WHEN is_leased THEN at + make_interval(secs => $25::double precision) END,
        CASE WHEN NOT is_leased THEN at ELSE at + make_interval(secs => $25 + CASE
            WHEN $26::integer <= 1 THEN 0 ELSE random() * LEAST($27::double precision, 1)
        END) END,
        at + make_interval(secs => CASE
            WHEN is_leased AND $26 <= 1 THEN LEAST($24::double precision, $25) ELSE $24 END),
        protocol IS NOT NULL
    FROM events
), announced AS (
    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
    SELECT request_id, 1, 'requested', agent_id, payload, traceparent, created_at, at + interval '10 seconds'
    FROM events
    UNION ALL
    SELECT request_id, 2, 'decided', agent_id, decided_payload, traceparent, at, at + interval '10 seconds'
    FROM events
)
SELECT a.request_id AS "request_id!: RequestId", e.created_at AS "created_at!", e.respond_by AS "respond_by!",
    e.payload AS "payload!", e.decided_payload AS "decided_payload!", e.entry AS "submitted!", e.hash AS "submitted_hash!",
    e.decided_entry AS "entry!", e.head AS "hash!", e.permit_expires_at,
    CASE WHEN e.is_leased THEN e.delivery_id END AS delivery_id,
    CASE WHEN e.is_leased THEN e.at + make_interval(secs => $25) END AS lease_expires_at
FROM admitted a LEFT JOIN events e USING (request_id)
WHERE e.request_id IS NOT NULL OR (a.rule ? 'most' AND lost_its_key())
