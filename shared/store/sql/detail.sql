/* relaytrace: detail */
-- One request in full, with its whole chain. $1 request; $2 now, NULL for the database's clock; $3 tenant;
-- $4 the caller as `may_decide` takes them.
SELECT r.agent_id AS "agent_id: AgentId", r.title, r.priority AS "priority: Priority", r.status AS "status: Status",
    r.action_type, r.created_at, r.respond_by, r.escalated_at,
    r.client_request_key AS "client_request_key: ClientRequestKey", r.action_digest, r.group_key, r.approved_digest,
    r.approvals_required, r.approvals_given, r.voters, r.votes::text AS votes,
    e.envelope AS "envelope?", r.protocol AS "protocol?: Protocol",
    is_own_request(r.tenant_id, r.on_behalf_of, r.rule_terms, $4::jsonb) AS "is_own!",
    may_decide(r.tenant_id, r.assigned_groups, r.assigned_operators, $4, at_or_now($2)) AS "may_decide!",
    -- Whom the caller may act for here.
    CASE WHEN r.status = 'pending' THEN (
        SELECT jsonb_agg(DISTINCT jsonb_build_object('id', o.operator_id, 'name', o.name))
        FROM (
            SELECT DISTINCT d.tenant_id, d.delegator_id FROM delegations d
            WHERE d.tenant_id = r.tenant_id AND d.delegate_id = $4 ->> 'id' AND d.ended_at IS NULL
                AND d.starts_at <= at_or_now($2) AND d.ends_at > at_or_now($2)
        ) g
        JOIN operators o ON o.tenant_id = g.tenant_id AND o.operator_id = g.delegator_id
        WHERE may_decide(r.tenant_id, r.assigned_groups, r.assigned_operators,
                $4 || jsonb_build_object('for', g.delegator_id), at_or_now($2))
    )::text END AS may_act_for,
    r.assigned_groups, r.assigned_operators, r.rule_name, r.rules_version,
    k.operator_id AS "claimed_by?", k.operator_name AS claimed_by_name, k.claimed_until AS "claimed_until?",
    r.status = 'pending' AND EXISTS (
        SELECT FROM freezes f
        WHERE f.tenant_id = r.tenant_id AND f.ends_at > at_or_now($2) AND f.mode = 'stop'
            AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
            AND (f.action_type IS NULL OR f.action_type = r.action_type)
    ) AS "is_stopped!",
    d.edited, w.action AS "written_action?", w.response AS "written_response?",
    at_or_now($2) >= r.respond_by AS "is_over!",
    d.outcome AS "outcome?: Outcome", d.cause AS "cause?: Cause", d.decided_by_kind AS "decided_by_kind?: ActorKind",
    d.decided_by_id AS "decided_by_id?", d.decided_by_name, d.decided_for AS "decided_for?", d.decided_for_name, d.reason, d.decided_at AS "decided_at?",
    v.state AS "delivery_state?: DeliveryState", v.attempt AS "attempt?", v.lease_expires_at AS "lease_expires_at?",
    v.result AS "delivery_result?", v.error_code, v.error_message,
    COALESCE(r.execution, CASE
        WHEN d.outcome IS DISTINCT FROM 'approved' OR r.permit_expires_at IS NULL THEN 'none'
        WHEN at_or_now($2) >= r.permit_expires_at THEN 'unused'
        -- A stop has revoked it, at the latest by its end.
        WHEN EXISTS (
            SELECT FROM freezes f
            WHERE f.tenant_id = r.tenant_id AND f.ends_at > d.decided_at AND f.mode = 'stop'
                AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
                AND (f.action_type IS NULL OR f.action_type = r.action_type)
        ) THEN 'unused'
        ELSE 'waiting'
    END) AS "execution!: Execution",
    r.permit_expires_at, p.last_polled_at AS "last_polled_at?", c.entries AS "entries!", c.hashes AS "hashes!",
    COALESCE((
        SELECT b.at < t.attested_from FROM approval_chain b, attestation_start t
        WHERE b.request_id = r.request_id AND b.seq = d.chain_seq
    ), false) AS "is_from_before!"
FROM hitl_requests r
LEFT JOIN request_envelopes e USING (request_id)
LEFT JOIN hitl_decisions d USING (request_id)
LEFT JOIN decision_values w ON w.request_id = d.request_id AND w.seq = d.chain_seq
LEFT JOIN deliveries v ON v.request_id = r.request_id
LEFT JOIN claims k ON k.request_id = r.request_id AND r.status = 'pending' AND k.claimed_until > at_or_now($2)
LEFT JOIN agent_polls p ON p.agent_id = r.agent_id
CROSS JOIN LATERAL (
    SELECT array_agg(c.entry ORDER BY c.seq) AS entries, array_agg(c.hash ORDER BY c.seq) AS hashes
    FROM approval_chain c WHERE c.request_id = r.request_id
) c
WHERE r.request_id = $1 AND r.tenant_id = $3
