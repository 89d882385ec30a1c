-- Operators as their tokens describe them, timeout policies of tenants, and what offboarding needs. Additive: the binaries
-- before it keep working.
SET LOCAL lock_timeout = '2s';

-- ---------------------------------------------------------------- operators
CREATE TABLE operators (
    tenant_id     text        NOT NULL,
    operator_id   text        NOT NULL,
    name          text,
    email         text,
    groups        text[]      NOT NULL DEFAULT '{}',
    known_as      text[]      NOT NULL DEFAULT '{}',
    status        text        NOT NULL DEFAULT 'active',
    first_seen_at timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    blocked_at    timestamptz,
    blocked_by    text,
    CONSTRAINT operators_pkey PRIMARY KEY (tenant_id, operator_id),
    CONSTRAINT operators_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT operators_status_known CHECK (status IN ('active', 'blocked')),
    CONSTRAINT operators_blocked_whole CHECK (
        (status = 'blocked') = (blocked_at IS NOT NULL) AND (blocked_at IS NULL) = (blocked_by IS NULL)
    )
);
COMMENT ON TABLE operators IS 'People with the role operator, as their latest tokens described them. Nobody is registered: who comes with a token is known from then on.';
COMMENT ON COLUMN operators.tenant_id IS 'Their tenant.';
COMMENT ON COLUMN operators.operator_id IS 'The token''s sub; with several issuers the issuer''s name before it.';
COMMENT ON COLUMN operators.name IS 'As the token gave it.';
COMMENT ON COLUMN operators.email IS 'As the token gave it.';
COMMENT ON COLUMN operators.groups IS 'As the token gave them. What a call may do follows its own token, not this.';
COMMENT ON COLUMN operators.known_as IS 'Id, sub, e-mail address and user name in lower case.';
COMMENT ON COLUMN operators.status IS 'active, or blocked by an administrator.';
COMMENT ON COLUMN operators.first_seen_at IS 'Their first call.';
COMMENT ON COLUMN operators.seen_at IS 'Their latest call, to about a minute.';
COMMENT ON COLUMN operators.blocked_at IS 'When they were blocked.';
COMMENT ON COLUMN operators.blocked_by IS 'The administrator who did it.';

-- ---------------------------------------------------------------- timeout policies of tenants
-- A policy is its administrator's tenant's. What was there from the start stays the deployment's, for every tenant.
ALTER TABLE timeout_policies
    DROP CONSTRAINT timeout_policies_scope_key,
    ADD CONSTRAINT timeout_policies_scope_key UNIQUE NULLS NOT DISTINCT (tenant_id, priority, agent_id, action_type);
UPDATE timeout_policies p
SET tenant_id = COALESCE((SELECT a.tenant_id FROM agents a WHERE a.agent_id = p.agent_id), 'default')
WHERE p.tenant_id IS NULL AND (p.agent_id IS NOT NULL OR p.action_type IS NOT NULL);

CREATE FUNCTION applying_terms(
    asking_tenant_id text, asking_agent_id text, asked_action_type text, asked_priority smallint
)
    RETURNS TABLE (
        policy_id uuid, respond_within_seconds integer, escalate_after_percent smallint, on_timeout text,
        lowest_priority smallint, permit_seconds integer, consume_required boolean
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
        ), p.permit_seconds, p.consume_required
    FROM timeout_policies p
    WHERE p.priority = asked_priority
        AND (p.tenant_id IS NULL OR p.tenant_id = asking_tenant_id)
        AND (p.agent_id IS NULL OR p.agent_id = asking_agent_id)
        AND (p.action_type IS NULL OR p.action_type = asked_action_type)
    ORDER BY p.tenant_id IS NULL, p.agent_id IS NULL, p.action_type IS NULL LIMIT 1;
END;
COMMENT ON FUNCTION applying_terms(text, text, text, smallint) IS 'The policy of the tenant, else of the deployment, and of these the most specific: agent and action type, agent, action type, neither; with the lowest priority that may be asked with.';

-- Of the release before: the same, by the agent's tenant.
CREATE OR REPLACE FUNCTION applying_terms(asking_agent_id text, asked_action_type text, asked_priority smallint)
    RETURNS TABLE (
        policy_id uuid, respond_within_seconds integer, escalate_after_percent smallint, on_timeout text,
        lowest_priority smallint, permit_seconds integer, consume_required boolean
    )
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT t.policy_id, t.respond_within_seconds, t.escalate_after_percent, t.on_timeout, t.lowest_priority,
        t.permit_seconds, t.consume_required
    FROM applying_terms((SELECT a.tenant_id FROM agents a WHERE a.agent_id = asking_agent_id), asking_agent_id,
        asked_action_type, asked_priority) t;
END;

-- ---------------------------------------------------------------- limits and offboarding
-- Volatile: it sees what was committed while its caller waited for the tenant's row.
CREATE FUNCTION tenant_has_room(of_tenant text, most integer) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT count(*) < most FROM (
        SELECT FROM agents a WHERE a.tenant_id = of_tenant AND a.status = 'active' LIMIT most
    ) counted
$$;
COMMENT ON FUNCTION tenant_has_room(text, integer) IS 'Whether one more agent is within the limit. An agent that is disabled does not count.';

-- The key is the tenant's own: a unique key of all says nothing of another tenant's.
CREATE FUNCTION key_in_tenant(tenant_id text, own_key text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN tenant_id = 'default' THEN own_key ELSE tenant_id || '/' || own_key END;
COMMENT ON FUNCTION key_in_tenant(text, text) IS 'A key of a tenant''s administrator as it is stored among those of all tenants. No key has a slash in it.';
COMMENT ON COLUMN replays.replay_key IS 'The administrator''s own key: the same key is the same replay; the tenant and a slash before it, except for the tenant default.';

-- ---------------------------------------------------------------- grants
GRANT SELECT, INSERT, UPDATE ON operators TO relaytrace_app;
