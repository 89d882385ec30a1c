/* relaytrace: request_of */
-- Requests as their agent may see them, with the decisions that they have: a row for each look. No row: the key or agent is
-- not active; one without a request: the agent has no such request.
--
-- Arrays, one element for each look: $1 key_id, $2 agent_id, $3 request_id; $4 now (null: the database's clock)
SELECT i.number AS "number!", r.request_id AS "request_id?: RequestId", r.client_request_key AS "client_request_key?: ClientRequestKey",
    r.status AS "status?: Status", r.priority AS "priority?: Priority", r.created_at AS "created_at?",
    r.respond_by AS "respond_by?", r.action_digest AS "action_digest?", r.action_type AS "action_type?",
    c.entry AS "entry?", c.prev_hash AS "prev_hash?", c.hash AS "hash?", e.resume AS "resume?",
    s.entry AS "submitted?", s.hash AS "submitted_hash?",
    c.at < (SELECT t.attested_from FROM attestation_start t) AS is_from_before,
    w.action AS "written_action?", w.response AS "written_response?",
    v.attempt AS "attempt?", v.replayed AS "replayed?", r.permit_expires_at, r.rule_name, r.rules_version,
    r.approvals_required, r.approvals_given,
    d.outcome AS "outcome?: Outcome", d.decided_by_kind AS "decided_by_kind?: ActorKind",
    COALESCE(r.execution, CASE
        WHEN d.outcome IS DISTINCT FROM 'approved' OR r.permit_expires_at IS NULL THEN 'none'
        WHEN at_or_now($4) >= r.permit_expires_at THEN 'unused'
        -- A stop has revoked it, at the latest by its end.
        WHEN EXISTS (
            SELECT FROM freezes f
            WHERE f.tenant_id = r.tenant_id AND f.ends_at > d.decided_at AND f.mode = 'stop'
                AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
                AND (f.action_type IS NULL OR f.action_type = r.action_type)
        ) THEN 'unused'
        ELSE 'waiting'
    END) AS "execution!: Execution"
FROM UNNEST($1::text[], $2::text[], $3::uuid[]) WITH ORDINALITY AS i (key_id, agent_id, request_id, number)
JOIN active_keys k ON k.key_id = i.key_id AND k.agent_id = i.agent_id
LEFT JOIN hitl_requests r ON r.request_id = i.request_id AND r.agent_id = k.agent_id
LEFT JOIN hitl_decisions d ON d.request_id = r.request_id
LEFT JOIN approval_chain c ON c.request_id = d.request_id AND c.seq = d.chain_seq AND c.kind = 'decided'
LEFT JOIN approval_chain s ON s.request_id = d.request_id AND s.seq = 1
LEFT JOIN decision_values w ON w.request_id = d.request_id AND w.seq = d.chain_seq
LEFT JOIN deliveries v ON v.request_id = r.request_id
LEFT JOIN request_envelopes e ON e.request_id = r.request_id
ORDER BY i.number
