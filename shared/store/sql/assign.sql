/* relaytrace: assign */
-- Reroutes a pending request. No row: it was not rerouted; a second statement finds out why.
--
-- $1 now (null: the database's clock), $2 request_id, $3 tenant_id, $4 groups (null: none), $5 operators (null: none),
-- $6 reason, $7 to $9 kind, id and name of who does it, $10 the same as `may_act_on` takes them (JSON; null: an
-- administrator, who is bound by no rule), $11 traceparent (null: none)
WITH target AS (
    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
        r.chain_length, r.chain_head, r.respond_by, r.assigned_groups, r.assigned_operators, r.votes
    FROM hitl_requests r
    CROSS JOIN LATERAL (
        SELECT ARRAY(SELECT jsonb_array_elements_text(
            COALESCE(r.rule_terms -> 'groups', '[]') || COALESCE(r.rule_terms -> 'reroute_to', '[]')
            || CASE WHEN r.escalated_at IS NULL THEN '[]' ELSE COALESCE(r.rule_terms -> 'escalate_to', '[]') END
        ) UNION
            -- Escalated before it was raised: they are asked already.
            SELECT g.name FROM unnest(r.assigned_groups) AS g (name) WHERE r.rule_terms -> 'escalate_to' ? g.name
        ) AS groups
    ) allowed
    -- In these words no plan looks through what is pending.
    WHERE r.request_id = $2 AND r.status <> 'decided' AND r.tenant_id = $3
        AND ($10::jsonb IS NULL OR (
            may_act_on(r.tenant_id, r.assigned_groups, r.assigned_operators, $10, at_or_clock($1))
            AND COALESCE($4::text[] <@ allowed.groups, true)
            AND NOT EXISTS (
                SELECT FROM unnest($5::text[]) AS named (id)
                WHERE NOT COALESCE(r.rule_terms -> 'operators' ? named.id, false)
                    AND NOT EXISTS (
                        SELECT FROM operators o
                        WHERE o.tenant_id = r.tenant_id AND o.operator_id = named.id AND o.groups && allowed.groups
                    )
            )
        ))
    FOR NO KEY UPDATE OF r
), timed AS MATERIALIZED (
    SELECT t.*, t.chain_length + 1 AS seq, GREATEST(t.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment
    FROM target t
), kept AS MATERIALIZED (
    -- Votes stay where their voters are still assigned: as themselves, or whom they acted for.
    SELECT t.*, v.kept, v.given, v.persons
    FROM timed t
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(e.vote ORDER BY e.place) AS kept, count(*)::smallint AS given,
            array_agg(p.id ORDER BY e.place) FILTER (WHERE p.id IS NOT NULL)
                || array_agg(e.vote #>> '{actor,for,id}') FILTER (WHERE e.vote #> '{actor,for}' IS NOT NULL) AS persons
        FROM jsonb_array_elements(t.votes) WITH ORDINALITY AS e (vote, place)
        CROSS JOIN LATERAL (
            SELECT e.vote #>> '{actor,id}' AS id, COALESCE(e.vote #>> '{actor,for,id}', e.vote #>> '{actor,id}') AS counts_for
        ) p
        WHERE p.counts_for = ANY ($5) OR EXISTS (
            SELECT FROM operators o
            WHERE o.tenant_id = t.tenant_id AND o.operator_id = p.counts_for AND o.groups && $4
        )
    ) v
    WHERE t.moment < t.respond_by
), entries AS MATERIALIZED (
    SELECT k.*, chain_entry(k.request_id, k.seq, 'rerouted', k.at, chain_actor($7::text, $8::text, $9::text),
        '"assigned_to":' || jsonb_build_object('groups', COALESCE($4, '{}'), 'operators', COALESCE($5, '{}'))::text
        || ',"previous":' || CASE WHEN k.assigned_groups IS NULL AND k.assigned_operators IS NULL THEN 'null'
            ELSE jsonb_build_object(
                'groups', COALESCE(k.assigned_groups, '{}'), 'operators', COALESCE(k.assigned_operators, '{}')
            )::text END
        || ',"reason":' || json_text($6)
        || CASE WHEN k.votes IS NULL THEN '' ELSE ',"approvals_given":' || k.given END) AS entry
    FROM kept k
), linked AS MATERIALIZED (
    SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
), rerouted AS (
    UPDATE hitl_requests r
    SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash, assigned_groups = $4, assigned_operators = $5,
        votes = l.kept, approvals_given = CASE WHEN l.votes IS NULL THEN r.approvals_given ELSE l.given END,
        voters = CASE WHEN l.votes IS NULL THEN r.voters ELSE l.persons END
    FROM linked l WHERE r.request_id = l.request_id AND r.status <> 'decided'
    RETURNING l.*
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, 'rerouted', at, entry, chain_head, hash FROM rerouted
)
INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
SELECT request_id, seq, 'rerouted', agent_id,
    handoff_event('rerouted', request_id, seq, at, agent_id, client_request_key, priority, action_digest, hash,
        NULL, NULL, tenant_id),
    $11::text, at, moment + interval '10 seconds'
FROM rerouted
RETURNING request_id AS "request_id: RequestId", seq, kind, agent_id AS "agent_id: AgentId", payload, traceparent
