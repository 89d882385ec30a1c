-- Who may use a permit beside its own agent, and who never approves. Additive.
SET LOCAL lock_timeout = '2s';

-- Plain SQL, which the planner inlines.
CREATE FUNCTION may_execute(
    is_any boolean, key_agent_id text, key_tenant_id text, execute_agents text[], execute_action_types text[],
    agent_id text, tenant_id text, action_type text
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN is_any THEN
        tenant_id = key_tenant_id
        AND (execute_agents IS NULL OR agent_id = ANY (execute_agents))
        AND (execute_action_types IS NULL OR action_type = ANY (execute_action_types))
    ELSE agent_id = key_agent_id END;
COMMENT ON FUNCTION may_execute IS 'Whether a key may use the permit of a request: of its own agent, or (execute-any) of the agents and action types that it names, null being any of its tenant.';

-- An administrator ends what is asked, and an agent takes it back; neither approves it. So a sweep that may speak for
-- administrators, for the stops that they order, cannot make an approval of it.
ALTER TABLE hitl_decisions ADD CONSTRAINT hitl_decisions_approved_by_who_may
    CHECK (outcome <> 'approved' OR cause IN ('operator', 'timeout', 'policy')) NOT VALID;
COMMENT ON COLUMN freezes.until IS 'When it ends by itself.';
ALTER TABLE freezes ADD CONSTRAINT freezes_end CHECK (until IS NOT NULL) NOT VALID;
