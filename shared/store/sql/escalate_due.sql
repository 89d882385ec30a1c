/* relaytrace: escalate_due */
-- Escalates pending requests whose time for it has come.
--
-- $1 now (null: the database's clock), $2 at most so many, $3 only this request (null: any)
WITH target AS (
    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
        r.chain_length, r.chain_head, r.assigned_operators,
        -- Groups of a rule join those who are asked; where everyone is, nobody can join.
        CASE WHEN r.rule_terms ? 'escalate_to' AND (r.assigned_groups IS NOT NULL OR r.assigned_operators IS NOT NULL)
            THEN ARRAY(
                SELECT DISTINCT g.name FROM (
                    SELECT unnest(r.assigned_groups) UNION ALL SELECT jsonb_array_elements_text(r.rule_terms -> 'escalate_to')
                ) AS g (name) ORDER BY g.name
            ) END AS joined_groups
    FROM hitl_requests r
    WHERE r.status = 'pending' AND r.escalated_at IS NULL AND r.escalate_at IS NOT NULL
        AND r.escalate_at <= at_or_now($1)
        AND ($3::uuid IS NULL OR r.request_id = $3)
        AND NOT EXISTS (
            SELECT FROM sweep_failures f WHERE f.part = 'escalate' AND f.request_id = r.request_id
                AND f.retry_at > at_or_now($1)
        )
    ORDER BY r.escalate_at LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
), timed AS MATERIALIZED (
    SELECT t.*, t.chain_length + 1 AS seq,
        GREATEST(t.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment
    FROM target t
), entries AS MATERIALIZED (
    SELECT t.*, chain_entry(t.request_id, t.seq, 'escalated', t.at,
        chain_actor('system', 'timeout-sweep', NULL), CASE WHEN t.joined_groups IS NULL THEN '' ELSE '"assigned_to":'
            || jsonb_build_object('groups', t.joined_groups, 'operators', COALESCE(t.assigned_operators, '{}'))::text END) AS entry
    FROM timed t
), linked AS MATERIALIZED (
    SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
), requests AS (
    UPDATE hitl_requests r
    SET escalated_at = l.at, assigned_groups = COALESCE(l.joined_groups, r.assigned_groups), changed_at = l.at, chain_length = l.seq, chain_head = l.hash
    FROM linked l WHERE r.request_id = l.request_id
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, 'escalated', at, entry, chain_head, hash FROM linked
)
INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
SELECT request_id, seq, 'escalated', agent_id,
    handoff_event('escalated', request_id, seq, at, agent_id, client_request_key, priority,
        action_digest, hash, NULL, NULL, tenant_id),
    NULL, at, moment + interval '10 seconds'
FROM linked
RETURNING request_id AS "request_id: RequestId", seq, kind, agent_id AS "agent_id: AgentId", payload, traceparent
