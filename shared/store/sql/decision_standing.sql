/* relaytrace: decision_standing */
-- How requests stand that were not decided.
--
-- $1 now (null: the database's clock), $2 request_ids, $3 tenant_id (null: any), $4 cause, $5 the person as
-- `may_decide` takes them
SELECT r.request_id AS "request_id: RequestId", at_or_clock($1) AS "now!",
    EXISTS (
        SELECT FROM freezes f
        WHERE f.tenant_id = r.tenant_id AND f.ends_at > at_or_clock($1)
            AND (f.mode = 'stop' OR $4::text IN ('timeout', 'policy'))
            AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
            AND (f.action_type IS NULL OR f.action_type = r.action_type)
    ) AS "is_frozen!",
    r.respond_by, r.action_digest, r.answers,
    is_own_request(r.tenant_id, r.on_behalf_of, r.rule_terms, $5::jsonb) AS "is_own!",
    may_decide(r.tenant_id, r.assigned_groups, r.assigned_operators, $5, at_or_clock($1)) AS "may_decide!", r.approved_digest, d.edited,
    r.approvals_required, r.approvals_given, r.voters, r.votes::text AS votes,
    v.action AS "written_action?", v.response AS "written_response?",
    d.outcome AS "outcome?: Outcome", d.cause AS "cause?: Cause",
    d.decided_by_kind AS "decided_by_kind?: ActorKind", d.decided_by_id AS "decided_by_id?",
    d.decided_by_name, d.decided_for AS "decided_for?", d.decided_for_name, d.reason, d.decided_at AS "decided_at?"
FROM hitl_requests r
LEFT JOIN hitl_decisions d USING (request_id)
LEFT JOIN decision_values v ON v.request_id = d.request_id AND v.seq = d.chain_seq
WHERE r.request_id = ANY ($2::uuid[]) AND r.tenant_id = COALESCE($3::text, r.tenant_id)
