/* relaytrace: report_outcome */
-- Notes what became of permits that were used: the first word on each, and what replaces `unknown`. A row that is not
-- returned changed nothing; a second statement finds out why.
--
-- $1 now (null: the database's clock)
-- Arrays, one element for each report: $2 request_id, $3 agent_id, $4 key_id, $5 state, $6 note (null: none),
-- $7 evidence (null: none), $8 traceparent (null: none), $9 whether by the scope execute-any
WITH request AS (
    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority,
        COALESCE(r.approved_digest, r.action_digest) AS action_digest, r.changed_at, r.chain_length, r.chain_head,
        i.caller_id, i.key_id, i.state, i.note, i.evidence, i.traceparent, h.outcome,
        h.cause
    FROM hitl_requests r
    JOIN UNNEST($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[], $9::boolean[])
        AS i (request_id, caller_id, key_id, state, note, evidence, traceparent, is_any) ON i.request_id = r.request_id
    JOIN active_keys k ON k.key_id = i.key_id AND k.agent_id = i.caller_id
    JOIN hitl_decisions h ON h.request_id = r.request_id
    WHERE r.execution IN ('consumed', 'unknown')
        -- Its own agent, or the agent whose key has used it: by this key or by the next one.
        AND (r.agent_id = k.agent_id OR i.is_any AND EXISTS (
            SELECT FROM agent_keys u WHERE u.key_id = r.consumed_by AND u.agent_id = k.agent_id
        ))
    ORDER BY r.request_id
    FOR NO KEY UPDATE OF r
), timed AS MATERIALIZED (
    SELECT r.*, GREATEST(r.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment FROM request r
), entries AS MATERIALIZED (
    SELECT t.*, t.chain_length + 1 AS seq,
        chain_entry(t.request_id, t.chain_length + 1, 'outcome', t.at, chain_actor('agent', t.caller_id, NULL),
            '"state":"' || t.state || '","note":' || json_text(t.note)
            || ',"evidence_sha256":' || json_text(digest_text(t.evidence)) || ',"key_id":"' || t.key_id || '"') AS entry
    FROM timed t
), linked AS MATERIALIZED (
    SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
), requests AS (
    UPDATE hitl_requests r SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash, execution = l.state
    FROM linked l WHERE r.request_id = l.request_id
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, seq, 'outcome', at, entry, chain_head, hash FROM linked
), done AS (
    DELETE FROM outcomes_due d USING linked l WHERE d.request_id = l.request_id
), announced AS (
    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
    SELECT request_id, seq, 'outcome', agent_id,
        handoff_event('outcome', request_id, seq, at, agent_id, client_request_key, priority, action_digest, hash,
            outcome, cause, tenant_id),
        traceparent, at, moment + interval '10 seconds'
    FROM linked
    RETURNING request_id, payload
)
SELECT l.request_id AS "request_id!: RequestId", l.agent_id AS "agent_id!: AgentId", l.at AS "at!", l.seq AS "seq!",
    a.payload AS "payload!"
FROM linked l JOIN announced a USING (request_id)
