-- What leases have in common: the decision and all that its receipt and its agent need, in one view that the planner inlines.
SET LOCAL lock_timeout = '2s';

CREATE VIEW deliverables WITH (security_invoker = true) AS
    SELECT r.request_id, r.client_request_key, r.action_type, r.permit_expires_at, a.entry, a.prev_hash, a.hash,
        s.entry AS submitted, s.hash AS submitted_hash, e.resume, w.action AS written_action,
        w.response AS written_response, a.at < (SELECT t.attested_from FROM attestation_start t) AS is_from_before,
        2000 + 3 * octet_length(a.entry) + COALESCE(octet_length(e.resume), 0) + COALESCE(octet_length(w.action), 0)
            + COALESCE(octet_length(w.response), 0) AS size
    FROM hitl_requests r
    JOIN hitl_decisions h ON h.request_id = r.request_id
    JOIN approval_chain a ON a.request_id = r.request_id AND a.seq = h.chain_seq AND a.kind = 'decided'
    JOIN approval_chain s ON s.request_id = r.request_id AND s.seq = 1
    -- An erased envelope has no row any more.
    LEFT JOIN request_envelopes e ON e.request_id = r.request_id
    -- Of a plain answer the key is null: nothing is looked for.
    LEFT JOIN decision_values w ON w.request_id = r.request_id
        AND w.seq = CASE WHEN h.edited IS NOT NULL OR h.outcome = 'responded' THEN h.chain_seq END;
COMMENT ON VIEW deliverables IS 'Decided requests as their agents get them: the entries of the receipt, the resume, and what an operator wrote.';
COMMENT ON COLUMN deliverables.is_from_before IS 'Whether the decision is older than attestations.';
COMMENT ON COLUMN deliverables.size IS 'Of it in an answer, in bytes, at the most.';

GRANT SELECT ON deliverables TO relaytrace_app;
