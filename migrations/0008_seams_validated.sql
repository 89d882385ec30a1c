-- The second half of 0007, which must not hold that one's locks: rows are read here while everybody works.
SET LOCAL lock_timeout = '2s';

ALTER TABLE agents VALIDATE CONSTRAINT agents_tenant_exists;
ALTER TABLE hitl_requests VALIDATE CONSTRAINT hitl_requests_answers_known;
ALTER TABLE hitl_requests VALIDATE CONSTRAINT hitl_requests_approvals_possible;
ALTER TABLE hitl_requests VALIDATE CONSTRAINT hitl_requests_permit_bounded;
ALTER TABLE hitl_requests VALIDATE CONSTRAINT hitl_requests_execution_known;
ALTER TABLE hitl_requests VALIDATE CONSTRAINT hitl_requests_consumed_whole;
ALTER TABLE hitl_decisions VALIDATE CONSTRAINT hitl_decisions_outcome_known;
ALTER TABLE hitl_decisions VALIDATE CONSTRAINT hitl_decisions_cause_known;
ALTER TABLE hitl_decisions VALIDATE CONSTRAINT hitl_decisions_timeout_is_no_person;
ALTER TABLE approval_chain VALIDATE CONSTRAINT approval_chain_kind_known;

-- Deliveries that a binary of the release before dead-letters meanwhile are found by their request.
UPDATE deliveries d SET dead_letter_id = x.dead_letter_id
FROM dead_letters x
WHERE x.kind = 'delivery' AND x.resolved_at IS NULL AND d.request_id = x.request_id AND d.state = 'dead_lettered';
