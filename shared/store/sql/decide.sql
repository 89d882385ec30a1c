/* relaytrace: decide */
-- The one statement by which requests stop being pending, whoever decides: an operator, an administrator, the agent
-- that takes its request back, the sweep. A row that is not returned was not decided; a second statement finds out why.
--
-- $1 now (null: the database's clock), $2 age in seconds at which a delivery is given up
-- Arrays, one element for each decision, in the order of $3, in which the requests are locked; no request twice:
-- $3 request_id, $4 outcome, $5 cause, $6 reason (null: none),
-- $7 action_digest that was seen (null: not said), $8 actor_kind, $9 actor_id, $10 actor_name (null: none),
-- $11 traceparent (null: none), $12 key_id (of an agent), $13 tenant_id (of a person), $14 attestation (JSON text),
-- $15 how long an approval may be used where the request does not say, in seconds (not an array),
-- $16 answer that must be offered (of a person), $17 the person as `may_decide` takes them (JSON),
-- $18 edited action, $19 its digest, $20 response, $21 its digest, $22 the stop by which a sweep rejects (null: none),
-- $23 key_id of a parked poll that takes the delivery, $24 the delivery_id of its lease (null: nobody waits)
-- Not arrays, of such a lease as in `lease`: $25 its length in seconds, $26 after so many attempts a delivery is
-- exhausted, $27 longest pause after it, in seconds
WITH linked AS MATERIALIZED (
    -- One subquery within the other: a CTE for each step would store its rows. OFFSET 0 keeps a step by itself, so that what
    -- it computes is computed once.
    SELECT h.*, handoff_event('decided', h.request_id, h.seq, h.at, h.agent_id, h.client_request_key, h.priority,
            h.decided_digest, h.hash, h.outcome, h.cause, h.tenant_id) AS payload
    FROM (
        SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM (
            SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.chain_head,
                r.counted, r.action_type, r.protocol, r.respond_by, r.seq, r.at, r.moment, i.outcome, i.cause,
                i.reason, i.actor_kind, i.actor_id, i.actor_name, i.acting, i.traceparent, i.edited_action,
                i.edited_digest, i.response, i.delivery_id, COALESCE(i.edited_digest, r.action_digest) AS decided_digest,
                -- A poll of its agent waits, with a key that is still good. What a bridge tells, no other poll takes. (Not
                -- EXISTS: for that, a plan may read all keys.)
                i.taker IS NOT NULL AND r.protocol IS NULL AND (
                    SELECT true FROM active_keys k WHERE k.key_id = i.taker AND k.agent_id = r.agent_id
                ) IS TRUE AS is_taken,
                CASE WHEN i.outcome = 'approved'
                    THEN r.at + make_interval(secs => COALESCE(r.permit_seconds, $15::double precision)) END AS permit_expires_at,
                chain_entry(r.request_id, r.seq, 'decided', r.at,
                    CASE WHEN i.acting IS NULL THEN chain_actor(i.actor_kind, i.actor_id, i.actor_name)
                        ELSE acting_actor(i.actor_kind, i.actor_id, i.actor_name, i.acting) END,
                    format('"outcome":"%s","cause":"%s","action_digest":"sha256:%s"%s%s,"reason":%s%s%s,"attestation":%s',
                        i.outcome, i.cause, encode(COALESCE(i.edited_digest, r.action_digest), 'hex'),
                        CASE WHEN i.edited_digest IS NOT NULL OR i.response_digest IS NOT NULL
                            THEN written_digests(r.action_digest, i.edited_digest, i.response_digest) END,
                        CASE WHEN r.votes IS NOT NULL THEN votes_with(r.votes, i.outcome, r.seq, r.at, i.reason, i.actor_kind,
                            i.actor_id, i.actor_name, i.acting) END,
                        json_text(i.reason), ',"key_id":"' || i.key_id || '"', ',"freeze_id":"' || i.freeze_id || '"',
                        i.attestation)) AS entry
            FROM (
                SELECT n.*, CASE WHEN n.person LIKE '{"for":%' THEN n.person::jsonb END AS acting FROM (
                    -- In step, and without storing them, as UNNEST over all in FROM would.
                    SELECT UNNEST($3::uuid[]) AS request_id, UNNEST($4::text[]) AS outcome, UNNEST($5::text[]) AS cause,
                        UNNEST($6::text[]) AS reason, UNNEST($7::bytea[]) AS action_digest, UNNEST($8::text[]) AS actor_kind,
                        UNNEST($9::text[]) AS actor_id, UNNEST($10::text[]) AS actor_name, UNNEST($11::text[]) AS traceparent,
                        UNNEST($12::text[]) AS key_id, UNNEST($13::text[]) AS tenant_id, UNNEST($14::text[]) AS attestation,
                        UNNEST($16::text[]) AS answer, UNNEST($17::text[]) AS person, UNNEST($18::bytea[]) AS edited_action,
                        UNNEST($19::bytea[]) AS edited_digest, UNNEST($20::bytea[]) AS response,
                        UNNEST($21::bytea[]) AS response_digest, UNNEST($22::text[]) AS freeze_id,
                        UNNEST($23::text[]) AS taker, UNNEST($24::uuid[]) AS delivery_id
                ) n
            ) i
            -- One after the other, in the order of the arrays. Status, chain head and length come from the locked row: a second
            -- look at the table would see what was there before the lock was granted.
            CROSS JOIN LATERAL (
                SELECT r.*, r.chain_length + 1 AS seq, GREATEST(r.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment
                FROM (
                    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority, r.action_digest,
                        r.changed_at, r.chain_length, r.chain_head, r.counted, r.action_type, r.permit_seconds, r.protocol,
                        r.votes, r.respond_by
                    FROM hitl_requests r
                    -- In these words no plan looks through what is pending.
                    WHERE r.request_id = i.request_id AND r.status <> 'decided'
                        AND r.action_digest = COALESCE(i.action_digest, r.action_digest)
                        AND CASE
                            -- An operator's plain answer, for themselves, to what anybody of the tenant decides alone.
                            WHEN i.cause = 'operator' AND COALESCE(r.approvals_required, 1) = 1 AND r.on_behalf_of IS NULL
                                AND r.assigned_groups IS NULL AND r.assigned_operators IS NULL AND i.acting IS NULL
                            THEN r.tenant_id = i.tenant_id AND i.answer = ANY (COALESCE(r.answers, '{approve,reject}'))
                            ELSE may_be_decided(r, i.cause, i.outcome, i.answer, i.actor_id, i.key_id, i.tenant_id, i.person,
                                i.freeze_id, at_or_now($1), at_or_clock($1))
                        END
                    OFFSET 0
                    FOR NO KEY UPDATE
                ) r
            ) r
            OFFSET 0
        ) e
        -- A person's answer counts before respond_by, an agent's or administrator's as long as no sweep has run.
        WHERE (e.cause <> 'operator' OR e.moment < e.respond_by)
            -- A stop admits no approval, a hold none that no person made.
            AND (e.outcome <> 'approved' OR NOT EXISTS (
                SELECT FROM freezes f
                WHERE f.tenant_id = e.tenant_id AND f.ends_at > e.moment
                    AND (f.mode = 'stop' OR e.cause IN ('timeout', 'policy'))
                    AND (f.agent_id IS NULL OR f.agent_id = e.agent_id)
                    AND (f.action_type IS NULL OR f.action_type = e.action_type)
            ))
        OFFSET 0
    ) h
), decided AS (
    UPDATE hitl_requests r
    SET status = 'decided', changed_at = l.at, chain_length = l.seq, chain_head = l.hash,
        permit_expires_at = l.permit_expires_at, approved_digest = l.edited_digest
    -- Not all of linked: Postgres keeps a copy of the whole row that it joins.
    FROM (SELECT request_id, at, seq, hash, permit_expires_at, edited_digest FROM linked OFFSET 0) l
    WHERE r.request_id = l.request_id AND r.status <> 'decided'
), decisions AS (
    INSERT INTO hitl_decisions (
        request_id, tenant_id, outcome, cause, decided_by_kind, decided_by_id, decided_by_name, reason, decided_at,
        chain_seq, edited, decided_for, decided_for_name
    )
    SELECT request_id, tenant_id, outcome, cause, actor_kind, actor_id, actor_name, reason, at, seq,
        edited_digest <> action_digest, acting ->> 'for', acting ->> 'for_name'
    FROM linked
), written AS (
    INSERT INTO decision_values (request_id, seq, action, response)
    SELECT request_id, seq, edited_action, response FROM linked WHERE edited_action IS NOT NULL OR response IS NOT NULL
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, 'decided', at, entry, chain_head, hash FROM linked
), delivered AS (
    INSERT INTO deliveries (
        request_id, agent_id, state, attempt, delivery_id, lease_expires_at, visible_at, expires_at, named_only
    )
    SELECT request_id, agent_id, CASE WHEN is_taken THEN 'leased' ELSE 'ready' END, is_taken::integer,
        CASE WHEN is_taken THEN delivery_id END,
        CASE WHEN is_taken THEN moment + make_interval(secs => $25::double precision) END,
        CASE WHEN NOT is_taken THEN moment ELSE moment + make_interval(secs => $25 + CASE
            WHEN $26::integer <= 1 THEN 0 ELSE random() * LEAST($27::double precision, 1)
        END) END,
        moment + make_interval(secs => CASE
            WHEN is_taken AND $26 <= 1 THEN LEAST($2::double precision, $25) ELSE $2 END),
        protocol IS NOT NULL
    FROM linked
), announced AS (
    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
    SELECT request_id, seq, 'decided', agent_id, payload, traceparent, at, moment + interval '10 seconds' FROM linked
)
SELECT d.request_id AS "request_id!: RequestId", d.agent_id AS "agent_id!: AgentId", d.at AS "at!", d.seq AS "seq!",
    d.decided_digest AS "action_digest!", d.action_digest AS "requested_action_digest!", d.payload AS "payload!",
    d.permit_expires_at, CASE WHEN d.is_taken THEN d.delivery_id END AS delivery_id,
    CASE WHEN d.is_taken THEN d.moment + make_interval(secs => $25) END AS lease_expires_at,
    CASE WHEN d.is_taken THEN d.client_request_key END AS "client_request_key?: ClientRequestKey",
    CASE WHEN d.is_taken THEN d.action_type END AS action_type, CASE WHEN d.is_taken THEN d.entry END AS entry,
    CASE WHEN d.is_taken THEN d.chain_head END AS prev_hash, CASE WHEN d.is_taken THEN d.hash END AS hash,
    s.entry AS "submitted?", s.hash AS "submitted_hash?", s.resume AS "resume?"
FROM linked d
-- Of a delivery that is only ready the key is null: nothing is looked for.
LEFT JOIN LATERAL (
    SELECT s.entry, s.hash, e.resume FROM approval_chain s LEFT JOIN request_envelopes e ON e.request_id = s.request_id
    WHERE s.request_id = CASE WHEN d.is_taken THEN d.request_id END AND s.seq = 1
    OFFSET 0
) s ON true
-- Whom no cap counts is not touched.
WHERE (SELECT uncount(NULLIF(ARRAY(SELECT c.request_id FROM linked c WHERE c.counted), '{}'))) IS NOT FALSE
