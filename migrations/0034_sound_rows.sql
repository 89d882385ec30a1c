-- The invariants of a row in one function instead of one CHECK each. Postgres reads every CHECK of a table anew in each
-- statement that writes it: 4 KiB of them take some 15 µs, and the three tables here had 23 KiB, a quarter of a decision's
-- CPU. A function is read once in a session. A row that breaks an invariant is refused as before, under the same name.
--
-- A new invariant of these tables goes into the function (CREATE OR REPLACE), and is proven for the rows that are there by
-- a constraint of its own, NOT VALID, then validated, then dropped.
SET LOCAL lock_timeout = '2s';

CREATE FUNCTION hitl_requests_is_sound(r hitl_requests) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    broken constant text := CASE
        WHEN r.status NOT IN ('pending', 'decided')
            THEN 'hitl_requests_status_known'
        WHEN r.priority NOT BETWEEN 1 AND 3
            THEN 'hitl_requests_priority_known'
        WHEN r.client_request_key !~ '^[A-Za-z0-9._:-]{1,128}$'
            THEN 'hitl_requests_client_request_key_well_formed'
        WHEN octet_length(r.action_digest) <> 32 OR octet_length(r.chain_head) <> 32
            THEN 'hitl_requests_digests_are_sha256'
        WHEN r.respond_by <= r.created_at
            THEN 'hitl_requests_respond_by_after_creation'
        WHEN NOT r.answers <@ ARRAY['approve', 'reject', 'edit', 'respond']
            THEN 'hitl_requests_answers_known'
        WHEN r.approvals_required NOT BETWEEN 1 AND 10 OR r.approvals_given < 0
            THEN 'hitl_requests_approvals_possible'
        WHEN r.permit_seconds NOT BETWEEN 10 AND 86400
            THEN 'hitl_requests_permit_bounded'
        WHEN r.execution NOT IN ('consumed', 'succeeded', 'failed', 'unknown')
            THEN 'hitl_requests_execution_known'
        WHEN num_nulls(r.execution, r.consumed_at, r.consumed_by, r.consume_key) NOT IN (0, 4)
            THEN 'hitl_requests_consumed_whole'
    END;
BEGIN
    IF broken IS NULL THEN
        RETURN true;
    END IF;
    RAISE check_violation USING
        MESSAGE = format('new row for relation "hitl_requests" violates check constraint "%s"', broken),
        TABLE = 'hitl_requests', CONSTRAINT = broken;
END
$$;
COMMENT ON FUNCTION hitl_requests_is_sound IS 'A request as the schema admits it; else an error that names the invariant.';
ALTER TABLE hitl_requests
    DROP CONSTRAINT hitl_requests_status_known,
    DROP CONSTRAINT hitl_requests_priority_known,
    DROP CONSTRAINT hitl_requests_client_request_key_well_formed,
    DROP CONSTRAINT hitl_requests_digests_are_sha256,
    DROP CONSTRAINT hitl_requests_respond_by_after_creation,
    DROP CONSTRAINT hitl_requests_answers_known,
    DROP CONSTRAINT hitl_requests_approvals_possible,
    DROP CONSTRAINT hitl_requests_permit_bounded,
    DROP CONSTRAINT hitl_requests_execution_known,
    DROP CONSTRAINT hitl_requests_consumed_whole,
    ADD CONSTRAINT hitl_requests_sound CHECK (hitl_requests_is_sound(hitl_requests)) NOT VALID;

CREATE FUNCTION hitl_decisions_is_sound(r hitl_decisions) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    broken constant text := CASE
        WHEN r.outcome NOT IN ('approved', 'rejected', 'cancelled', 'responded')
            THEN 'hitl_decisions_outcome_known'
        WHEN r.cause NOT IN ('operator', 'timeout', 'admin', 'agent', 'policy')
            THEN 'hitl_decisions_cause_known'
        WHEN r.decided_by_kind NOT IN ('operator', 'admin', 'agent', 'system')
            THEN 'hitl_decisions_decided_by_known'
        WHEN (r.cause IN ('timeout', 'policy')) <> (r.decided_by_kind = 'system') AND r.cause <> 'admin'
            THEN 'hitl_decisions_timeout_is_no_person'
        WHEN r.outcome = 'approved' AND r.cause NOT IN ('operator', 'timeout', 'policy')
            THEN 'hitl_decisions_approved_by_who_may'
        WHEN r.outcome = 'rejected' AND r.cause = 'operator' AND r.reason IS NULL
            THEN 'hitl_decisions_operator_rejects_with_reason'
    END;
BEGIN
    IF broken IS NULL THEN
        RETURN true;
    END IF;
    RAISE check_violation USING
        MESSAGE = format('new row for relation "hitl_decisions" violates check constraint "%s"', broken),
        TABLE = 'hitl_decisions', CONSTRAINT = broken;
END
$$;
COMMENT ON FUNCTION hitl_decisions_is_sound IS 'A decision as the schema admits it; else an error that names the invariant.';
ALTER TABLE hitl_decisions
    DROP CONSTRAINT hitl_decisions_outcome_known,
    DROP CONSTRAINT hitl_decisions_cause_known,
    DROP CONSTRAINT hitl_decisions_decided_by_known,
    DROP CONSTRAINT hitl_decisions_timeout_is_no_person,
    DROP CONSTRAINT hitl_decisions_approved_by_who_may,
    DROP CONSTRAINT hitl_decisions_operator_rejects_with_reason,
    ADD CONSTRAINT hitl_decisions_sound CHECK (hitl_decisions_is_sound(hitl_decisions)) NOT VALID;

CREATE FUNCTION approval_chain_is_sound(r approval_chain) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    broken constant text := CASE
        WHEN r.kind NOT IN (
                'submitted', 'escalated', 'extended', 'reprioritised', 'decided', 'acknowledged', 'dead_lettered', 'replayed',
                'voted', 'rerouted', 'consumed', 'outcome'
            )
            THEN 'approval_chain_kind_known'
        WHEN r.seq < 1
            THEN 'approval_chain_starts_at_one'
        WHEN r.hash <> sha256(r.prev_hash || r.entry)
            THEN 'approval_chain_hashes_its_entry'
        WHEN NOT starts_with(
                convert_from(substring(r.entry FROM 1 FOR 120), 'UTF8'),
                '{"request_id":"' || r.request_id || '","seq":' || r.seq || ',"kind":"' || r.kind || '",'
            )
            THEN 'approval_chain_entry_is_its_rows'
    END;
BEGIN
    IF broken IS NULL THEN
        RETURN true;
    END IF;
    RAISE check_violation USING
        MESSAGE = format('new row for relation "approval_chain" violates check constraint "%s"', broken),
        TABLE = 'approval_chain', CONSTRAINT = broken;
END
$$;
COMMENT ON FUNCTION approval_chain_is_sound IS 'An entry of a chain as the schema admits it; else an error that names the invariant.';
ALTER TABLE approval_chain
    DROP CONSTRAINT approval_chain_kind_known,
    DROP CONSTRAINT approval_chain_starts_at_one,
    DROP CONSTRAINT approval_chain_hashes_its_entry,
    DROP CONSTRAINT approval_chain_entry_is_its_rows,
    ADD CONSTRAINT approval_chain_sound CHECK (approval_chain_is_sound(approval_chain)) NOT VALID;
