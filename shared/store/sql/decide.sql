/* relaytrace: decide */
-- The one statement by which requests stop being pending, whoever decides: an operator, an administrator, the agent
-- that takes its request back, the sweep. A row that is not returned was not decided; a second statement finds out why.
--
-- $1 now (null: the database's clock), $2 age in seconds at which a delivery is given up
-- Arrays, one element for each decision: $3 request_id, $4 outcome, $5 cause, $6 reason (null: none),
-- $7 action_digest that was seen (null: not said), $8 actor_kind, $9 actor_id, $10 actor_name (null: none),
-- $11 traceparent (null: none), $12 key_id (of an agent), $13 tenant_id (of a person), $14 attestation (JSON text),
-- $15 how long an approval may be used where the request does not say, in seconds (not an array),
-- $16 answer that must be offered (of a person), $17 the person as `may_decide` takes them (JSON),
-- $18 edited action, $19 its digest, $20 response, $21 its digest, $22 the stop by which a sweep rejects (null: none),
-- $23 key_id of a parked poll that takes the delivery, $24 the delivery_id of its lease (null: nobody waits)
-- Not arrays, of such a lease as in `lease`: $25 its length in seconds, $26 after so many attempts a delivery is
-- exhausted, $27 longest pause after it, in seconds
WITH target AS (
    -- Locked in key order. Status, chain head and length come from the locked row: a second look at the table would
    -- see what was there before the lock was granted.
    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
        r.chain_length, r.chain_head, r.counted, r.action_type, r.permit_seconds, r.protocol, i.outcome, i.cause,
        i.reason, i.actor_kind, i.actor_id, i.actor_name, i.traceparent, i.attestation, i.key_id, i.freeze_id,
        i.edited_action, i.edited_digest, i.response, i.response_digest, i.taker, i.delivery_id, r.votes,
        COALESCE(i.edited_digest, r.action_digest) AS decided_digest,
        CASE WHEN i.person LIKE '{"for":%' THEN i.person::jsonb END AS acting,
        -- A person's answer counts before respond_by, an agent's or administrator's as long as no sweep has run.
        CASE WHEN i.cause = 'operator' THEN r.respond_by ELSE 'infinity' END AS not_after
    FROM hitl_requests r
    JOIN UNNEST(
        $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[], $9::text[], $10::text[], $11::text[],
        $12::text[], $13::text[], $14::text[], $16::text[], $17::text[], $18::bytea[], $19::bytea[], $20::bytea[],
        $21::bytea[], $22::text[], $23::text[], $24::uuid[]
    ) AS i (
        request_id, outcome, cause, reason, action_digest, actor_kind, actor_id, actor_name, traceparent, key_id,
        tenant_id, attestation, answer, person, edited_action, edited_digest, response, response_digest, freeze_id,
        taker, delivery_id
    ) ON i.request_id = r.request_id
    WHERE r.status = 'pending' AND r.action_digest = COALESCE(i.action_digest, r.action_digest)
        AND CASE i.cause
            WHEN 'agent' THEN r.agent_id = i.actor_id AND EXISTS (
                SELECT FROM active_keys k WHERE k.key_id = i.key_id AND k.agent_id = i.actor_id
            )
            -- The sweep has looked without a lock: it is still due, and its policy still says so.
            WHEN 'timeout' THEN r.respond_by <= at_or_now($1)
                AND NOT may_be_raised(r.on_timeout, r.priority, r.requested_respond_by, at_or_now($1))
                AND (i.outcome = 'rejected' OR (r.on_timeout = 'auto_approve' AND r.priority > 1
                    AND r.consume_required IS NOT TRUE AND COALESCE(r.approvals_required, 1) = 1
                    AND r.assigned_groups IS NULL AND r.assigned_operators IS NULL))
            WHEN 'operator' THEN r.tenant_id = i.tenant_id
                AND i.answer = ANY (COALESCE(r.answers, ARRAY['approve', 'reject']))
                -- One approval decides, or the last of several, as asked and by somebody who has not voted: the others are
                -- for vote.sql.
                AND (r.approvals_required IS NULL OR r.approvals_required = 1 OR i.outcome = 'rejected'
                    OR i.answer = 'approve' AND r.approvals_given = r.approvals_required - 1
                        AND i.actor_id <> ALL (r.voters)
                        AND (i.person NOT LIKE '{"for":%' OR i.person::jsonb ->> 'for' <> ALL (r.voters)))
                -- Nobody approves what is done for them.
                AND (r.on_behalf_of IS NULL OR i.outcome <> 'approved'
                    OR NOT is_own_request(r.tenant_id, r.on_behalf_of, r.rule_terms, i.person::jsonb))
                AND ((r.assigned_groups IS NULL AND r.assigned_operators IS NULL AND i.person NOT LIKE '{"for":%')
                    OR may_decide(r.tenant_id, r.assigned_groups, r.assigned_operators, i.person::jsonb, at_or_clock($1)))
            ELSE r.tenant_id = i.tenant_id AND (i.freeze_id IS NULL OR EXISTS (
                -- The stop is in force, and covers it.
                SELECT FROM freezes f
                WHERE f.tenant_id = r.tenant_id AND f.freeze_id = i.freeze_id AND f.mode = 'stop'
                    AND f.ends_at > at_or_now($1)
                    AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
                    AND (f.action_type IS NULL OR f.action_type = r.action_type)
            ))
        END
    ORDER BY r.request_id
    FOR NO KEY UPDATE OF r
), timed AS MATERIALIZED (
    SELECT t.*, GREATEST(t.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment,
        -- A poll of its agent waits, with a key that is still good. What a bridge tells, no other poll takes.
        t.taker IS NOT NULL AND t.protocol IS NULL AND EXISTS (
            SELECT FROM active_keys k WHERE k.key_id = t.taker AND k.agent_id = t.agent_id
        ) AS is_taken
    FROM target t
), entries AS MATERIALIZED (
    SELECT t.*, t.chain_length + 1 AS seq,
        chain_entry(t.request_id, t.chain_length + 1, 'decided', t.at,
            CASE WHEN t.acting IS NULL THEN chain_actor(t.actor_kind, t.actor_id, t.actor_name)
                ELSE acting_actor(t.actor_kind, t.actor_id, t.actor_name, t.acting) END,
            '"outcome":"' || t.outcome || '","cause":"' || t.cause
            || '","action_digest":"' || digest_text(t.decided_digest) || '"'
            || COALESCE(',"requested_action_digest":"' || digest_text(t.action_digest) || '","edited":'
                || (t.edited_digest <> t.action_digest)::text, '')
            || COALESCE(',"response_digest":"' || digest_text(t.response_digest) || '"', '')
            -- The votes before it as the row has them; of an approval it is itself the last.
            || CASE WHEN t.votes IS NULL THEN '' ELSE ',"votes":' || (t.votes || CASE
                WHEN t.outcome <> 'approved' THEN '[]'
                ELSE jsonb_build_object('seq', t.chain_length + 1, 'at', rfc3339(t.at), 'reason', t.reason, 'actor', CASE
                    WHEN t.acting IS NULL THEN chain_actor(t.actor_kind, t.actor_id, t.actor_name)
                    ELSE acting_actor(t.actor_kind, t.actor_id, t.actor_name, t.acting) END::jsonb)
                END)::text END
            || ',"reason":' || json_text(t.reason) || COALESCE(',"key_id":"' || t.key_id || '"', '')
            || COALESCE(',"freeze_id":"' || t.freeze_id || '"', '') || ',"attestation":' || t.attestation) AS entry
    FROM timed t
    WHERE t.moment < t.not_after
        -- A stop admits no approval, a hold none that no person made.
        AND (t.outcome <> 'approved' OR NOT EXISTS (
            SELECT FROM freezes f
            WHERE f.tenant_id = t.tenant_id AND f.ends_at > t.moment
                AND (f.mode = 'stop' OR t.cause IN ('timeout', 'policy'))
                AND (f.agent_id IS NULL OR f.agent_id = t.agent_id)
                AND (f.action_type IS NULL OR f.action_type = t.action_type)
        ))
), linked AS MATERIALIZED (
    SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
), decided AS (
    UPDATE hitl_requests r
    SET status = 'decided', changed_at = l.at, chain_length = l.seq, chain_head = l.hash,
        permit_expires_at = CASE WHEN l.outcome = 'approved'
            THEN l.at + make_interval(secs => COALESCE(l.permit_seconds, $15::double precision)) END,
        approved_digest = l.edited_digest
    FROM linked l WHERE r.request_id = l.request_id AND r.status = 'pending'
    RETURNING l.*, r.permit_expires_at
), caps AS (
    -- Locked before anything is computed from it: a CHECK is evaluated on the counts that this statement saw first,
    -- also where another one changes them meanwhile.
    SELECT c.agent_id, c.pending - n.pending AS pending, c.pending_p1 - n.pending_p1 AS pending_p1
    FROM (
        SELECT agent_id, count(*)::integer AS pending, (count(*) FILTER (WHERE priority = 1))::integer AS pending_p1
        FROM decided WHERE counted GROUP BY agent_id
    ) n
    JOIN agent_caps c ON c.agent_id = n.agent_id
    ORDER BY c.agent_id
    FOR NO KEY UPDATE OF c
), uncounted AS (
    UPDATE agent_caps c SET pending = l.pending, pending_p1 = l.pending_p1 FROM caps l WHERE c.agent_id = l.agent_id
), decisions AS (
    INSERT INTO hitl_decisions (
        request_id, tenant_id, outcome, cause, decided_by_kind, decided_by_id, decided_by_name, reason, decided_at,
        chain_seq, edited, decided_for, decided_for_name
    )
    SELECT request_id, tenant_id, outcome, cause, actor_kind, actor_id, actor_name, reason, at, seq,
        edited_digest <> action_digest, acting ->> 'for', acting ->> 'for_name'
    FROM decided
), written AS (
    INSERT INTO decision_values (request_id, seq, action, response)
    SELECT request_id, seq, edited_action, response FROM decided WHERE edited_action IS NOT NULL OR response IS NOT NULL
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, 'decided', at, entry, chain_head, hash FROM decided
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
    FROM decided
), announced AS (
    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
    SELECT request_id, seq, 'decided', agent_id,
        handoff_event('decided', request_id, seq, at, agent_id, client_request_key, priority, decided_digest, hash,
            outcome, cause, tenant_id),
        traceparent, at, moment + interval '10 seconds'
    FROM decided
    RETURNING request_id, payload
)
SELECT d.request_id AS "request_id!: RequestId", d.agent_id AS "agent_id!: AgentId", d.at AS "at!", d.seq AS "seq!",
    d.decided_digest AS "action_digest!", d.action_digest AS "requested_action_digest!", o.payload AS "payload!",
    d.permit_expires_at, CASE WHEN d.is_taken THEN d.delivery_id END AS delivery_id,
    CASE WHEN d.is_taken THEN d.moment + make_interval(secs => $25) END AS lease_expires_at,
    CASE WHEN d.is_taken THEN d.client_request_key END AS "client_request_key?: ClientRequestKey",
    CASE WHEN d.is_taken THEN d.action_type END AS action_type, CASE WHEN d.is_taken THEN d.entry END AS entry,
    CASE WHEN d.is_taken THEN d.chain_head END AS prev_hash, CASE WHEN d.is_taken THEN d.hash END AS hash,
    s.entry AS "submitted?", s.hash AS "submitted_hash?", e.resume AS "resume?"
FROM decided d
JOIN announced o USING (request_id)
-- Of a delivery that is only ready the key is null: nothing is looked for.
LEFT JOIN approval_chain s ON s.request_id = CASE WHEN d.is_taken THEN d.request_id END AND s.seq = 1
LEFT JOIN request_envelopes e ON e.request_id = CASE WHEN d.is_taken THEN d.request_id END
