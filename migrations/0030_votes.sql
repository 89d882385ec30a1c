-- Several approvals where one is not enough: how many a policy asks for, and each approval before the last. Additive: the
-- release before asks the policies without it, and decides nothing that has votes.
SET LOCAL lock_timeout = '2s';

ALTER TABLE hitl_requests ADD COLUMN votes jsonb;
COMMENT ON COLUMN hitl_requests.votes IS 'The approvals before the last, each with seq, at, actor, reason and attestation of its voted entry: the entry of the decision lists them from the locked row. Null: none.';
COMMENT ON COLUMN hitl_requests.approvals_given IS 'Approvals in votes, counted in the locked row: never by a look at other rows. The approval that decides is not among them.';
COMMENT ON COLUMN hitl_requests.voters IS 'Ids of the operators in votes, and of those they acted for: nobody counts twice.';

-- Not validated: no row has a value yet, and a row that is written is checked.
ALTER TABLE timeout_policies
    ADD COLUMN approvals smallint,
    ADD CONSTRAINT timeout_policies_approvals_possible CHECK (approvals BETWEEN 1 AND 10) NOT VALID,
    ADD CONSTRAINT timeout_policies_several_are_not_automatic
        CHECK (NOT (approvals > 1 AND on_timeout = 'auto_approve')) NOT VALID;
COMMENT ON COLUMN timeout_policies.approvals IS 'Approvals of operators that decide a request, 1 to 10; null: one.';

-- The same as applying_terms, and how many approvals decide. Binaries of the release before use the other.
CREATE FUNCTION terms_of_asking(
    asking_tenant_id text, asking_agent_id text, asked_action_type text, asked_priority smallint
)
    RETURNS TABLE (
        policy_id uuid, respond_within_seconds integer, escalate_after_percent smallint, on_timeout text,
        lowest_priority smallint, permit_seconds integer, consume_required boolean, approvals smallint
    )
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT p.policy_id, p.respond_within_seconds, p.escalate_after_percent, p.on_timeout, (
            SELECT l.lowest_priority FROM timeout_policies l
            WHERE l.lowest_priority IS NOT NULL
                AND (l.tenant_id IS NULL OR l.tenant_id = asking_tenant_id)
                AND (l.agent_id IS NULL OR l.agent_id = asking_agent_id)
                AND (l.action_type IS NULL OR l.action_type = asked_action_type)
            ORDER BY l.tenant_id IS NULL, l.agent_id IS NULL, l.action_type IS NULL, l.lowest_priority LIMIT 1
        ), p.permit_seconds, p.consume_required, p.approvals
    FROM timeout_policies p
    WHERE p.priority = asked_priority
        AND (p.tenant_id IS NULL OR p.tenant_id = asking_tenant_id)
        AND (p.agent_id IS NULL OR p.agent_id = asking_agent_id)
        AND (p.action_type IS NULL OR p.action_type = asked_action_type)
    ORDER BY p.tenant_id IS NULL, p.agent_id IS NULL, p.action_type IS NULL LIMIT 1;
END;
COMMENT ON FUNCTION terms_of_asking IS 'The policy of the tenant, else of the deployment, and of these the most specific: agent and action type, agent, action type, neither; with the lowest priority that may be asked with.';
