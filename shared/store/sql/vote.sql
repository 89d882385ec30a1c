/* relaytrace: vote */
-- Notes approvals of requests that need more than one: each before the last, which decide.sql takes. A row that is not
-- returned noted nothing: it is refused, or others were faster and it may now be the last. A second statement finds out.
--
-- $1 now (null: the database's clock)
-- Arrays, one element for each vote: $2 request_id, $3 tenant_id, $4 the voter as entries write them (JSON text),
-- $5 ids of the voter and of whom they act for (JSON array), $6 the voter as `may_decide` takes them (JSON),
-- $7 action_digest that was seen, $8 reason (null: none), $9 traceparent (null: none), $10 attestation (JSON text)
WITH target AS (
    -- Locked in key order, and judged as locked: neither counts nor voters are read beside the lock.
    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
        r.chain_length, r.chain_head, r.respond_by, r.action_type, r.approvals_required,
        (COALESCE(r.approvals_given, 0) + 1)::smallint AS given, i.actor, i.persons, i.reason, i.traceparent,
        i.attestation
    FROM hitl_requests r
    JOIN UNNEST(
        $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[], $9::text[], $10::text[]
    ) AS i (
        request_id, tenant_id, actor, persons, person, action_digest, reason, traceparent, attestation
    ) ON i.request_id = r.request_id
    -- In these words no plan looks through what is pending.
    WHERE r.status <> 'decided' AND r.tenant_id = i.tenant_id AND r.action_digest = i.action_digest
        AND COALESCE(r.approvals_given, 0) + 1 < r.approvals_required
        AND 'approve' = ANY (COALESCE(r.answers, ARRAY['approve', 'reject']))
        -- Nobody counts twice, neither as themselves nor as the one acted for.
        AND NOT i.persons::jsonb ?| COALESCE(r.voters, '{}')
        -- Nobody approves what is done for them.
        AND (r.on_behalf_of IS NULL OR NOT is_own_request(r.tenant_id, r.on_behalf_of, r.rule_terms, i.person::jsonb))
        AND ((r.assigned_groups IS NULL AND r.assigned_operators IS NULL AND i.person NOT LIKE '{"for":%')
            OR may_decide(r.tenant_id, r.assigned_groups, r.assigned_operators, i.person::jsonb, at_or_clock($1)))
    ORDER BY r.request_id
    FOR NO KEY UPDATE OF r
), timed AS MATERIALIZED (
    SELECT t.*, GREATEST(t.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment FROM target t
), entries AS MATERIALIZED (
    SELECT t.*, t.chain_length + 1 AS seq,
        chain_entry(t.request_id, t.chain_length + 1, 'voted', t.at, t.actor,
            '"cause":"operator","decision":"approve","action_digest":"' || digest_text(t.action_digest)
            || '","reason":' || json_text(t.reason) || ',"attestation":' || t.attestation) AS entry
    FROM timed t
    WHERE t.moment < t.respond_by
        -- A stop admits no approval.
        AND NOT EXISTS (
            SELECT FROM freezes f
            WHERE f.tenant_id = t.tenant_id AND f.ends_at > t.moment AND f.mode = 'stop'
                AND (f.agent_id IS NULL OR f.agent_id = t.agent_id)
                AND (f.action_type IS NULL OR f.action_type = t.action_type)
        )
), linked AS MATERIALIZED (
    SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
), voted AS (
    UPDATE hitl_requests r
    SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash, approvals_given = l.given,
        voters = r.voters || ARRAY(SELECT jsonb_array_elements_text(l.persons::jsonb)),
        votes = COALESCE(r.votes, '[]') || jsonb_build_object('seq', l.seq, 'at', rfc3339(l.at),
            'actor', l.actor::jsonb, 'reason', l.reason, 'attestation', l.attestation::jsonb)
    FROM linked l WHERE r.request_id = l.request_id AND r.status <> 'decided'
    RETURNING l.*
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, 'voted', at, entry, chain_head, hash FROM voted
), announced AS (
    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
    SELECT request_id, seq, 'voted', agent_id,
        handoff_event('voted', request_id, seq, at, agent_id, client_request_key, priority, action_digest, hash,
            NULL, NULL, tenant_id),
        traceparent, at, moment + interval '10 seconds'
    FROM voted
    RETURNING request_id, payload
)
SELECT v.request_id AS "request_id!: RequestId", v.agent_id AS "agent_id!: AgentId", v.seq AS "seq!",
    v.given AS "given!", v.approvals_required AS "required!", a.payload AS "payload!"
FROM voted v JOIN announced a USING (request_id)
