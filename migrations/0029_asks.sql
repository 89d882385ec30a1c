-- Who is asked: the version of the rules where a submission reads it anyway, delegations, claims, and the one function that
-- says who may decide. Additive.
SET LOCAL lock_timeout = '2s';

-- ---------------------------------------------------------------- rules
ALTER TABLE agents ADD COLUMN rules_version integer;
COMMENT ON COLUMN agents.rules_version IS 'Version of its tenant''s rules, null: none. Copied here because a submission reads this row anyway.';

-- A version is made under the tenant's lock, and an agent registered under its weakest: whichever is second waits for the
-- first and sees it, because each statement of a PL/pgSQL function has a snapshot of its own.
CREATE FUNCTION spread_rules_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE agents a SET rules_version = NEW.version WHERE a.tenant_id = NEW.tenant_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION spread_rules_version IS 'Gives a new version to the tenant''s agents, those included that were registered while the statement waited for the tenant''s lock.';
CREATE TRIGGER rules_spread AFTER INSERT ON rules FOR EACH ROW EXECUTE FUNCTION spread_rules_version();

CREATE FUNCTION take_rules_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM tenants t WHERE t.tenant_id = NEW.tenant_id FOR KEY SHARE;
    NEW.rules_version := (SELECT max(r.version) FROM rules r WHERE r.tenant_id = NEW.tenant_id);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION take_rules_version IS 'Gives a new agent the version of its tenant''s rules, after one that is being made.';
CREATE TRIGGER agents_take_rules_version BEFORE INSERT ON agents FOR EACH ROW EXECUTE FUNCTION take_rules_version();

CREATE TABLE rule_failures (
    tenant_id text   NOT NULL,
    version   integer NOT NULL,
    rule_name text   NOT NULL,
    failures  bigint NOT NULL,
    CONSTRAINT rule_failures_pkey PRIMARY KEY (tenant_id, version, rule_name),
    CONSTRAINT rule_failures_positive CHECK (failures > 0)
);
COMMENT ON TABLE rule_failures IS 'How often a rule could not be judged.';
COMMENT ON COLUMN rule_failures.tenant_id IS 'Whose rule.';
COMMENT ON COLUMN rule_failures.version IS 'Version of the rules.';
COMMENT ON COLUMN rule_failures.rule_name IS 'The rule.';
COMMENT ON COLUMN rule_failures.failures IS 'Submissions that it could not judge.';

-- ---------------------------------------------------------------- delegations
CREATE TABLE delegations (
    tenant_id      text        NOT NULL,
    delegation_id  text        NOT NULL,
    delegator_id   text        NOT NULL,
    delegator_name text,
    delegate_id    text        NOT NULL,
    groups         text[]      NOT NULL,
    starts_at      timestamptz NOT NULL,
    until          timestamptz NOT NULL,
    reason         text        NOT NULL,
    created_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    ended_by_kind  text,
    ended_by       text,
    ended_by_name  text,
    ends_at        timestamptz NOT NULL GENERATED ALWAYS AS (LEAST(ended_at, until)) STORED,
    CONSTRAINT delegations_pkey PRIMARY KEY (tenant_id, delegation_id, created_at),
    CONSTRAINT delegations_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT delegations_to_another CHECK (delegate_id <> delegator_id),
    CONSTRAINT delegations_name_groups CHECK (cardinality(groups) > 0),
    CONSTRAINT delegations_bounded CHECK (until > starts_at AND until <= starts_at + interval '90 days'),
    CONSTRAINT delegations_ended_whole CHECK ((ended_at IS NULL) = (ended_by IS NULL)
        AND (ended_at IS NULL) = (ended_by_kind IS NULL))
);
CREATE UNIQUE INDEX delegations_one_in_force ON delegations (tenant_id, delegation_id) WHERE ended_at IS NULL;
CREATE INDEX delegations_by_delegate ON delegations (tenant_id, delegate_id) WHERE ended_at IS NULL;
CREATE INDEX delegations_newest ON delegations (tenant_id, created_at, delegation_id);
COMMENT ON TABLE delegations IS 'Who may decide for whom. Rows stay: a changed delegation is ended and made anew.';
COMMENT ON COLUMN delegations.tenant_id IS 'Whose delegation.';
COMMENT ON COLUMN delegations.delegation_id IS 'The delegator''s own name of it, unique in the tenant.';
COMMENT ON COLUMN delegations.delegator_id IS 'The operator who is acted for.';
COMMENT ON COLUMN delegations.delegator_name IS 'The operator''s name as the token gave it.';
COMMENT ON COLUMN delegations.delegate_id IS 'The operator who acts.';
COMMENT ON COLUMN delegations.groups IS 'Groups of the delegator: what these may decide.';
COMMENT ON COLUMN delegations.starts_at IS 'From when on.';
COMMENT ON COLUMN delegations.until IS 'Until when, at most 90 days later.';
COMMENT ON COLUMN delegations.reason IS 'Why.';
COMMENT ON COLUMN delegations.created_at IS 'When it was made.';
COMMENT ON COLUMN delegations.ended_at IS 'When it was ended or replaced.';
COMMENT ON COLUMN delegations.ended_by_kind IS 'operator or admin, or system where its delegator was blocked.';
COMMENT ON COLUMN delegations.ended_by IS 'Who ended it.';
COMMENT ON COLUMN delegations.ended_by_name IS 'Their name as the token gave it.';
COMMENT ON COLUMN delegations.ends_at IS 'When it ended or ends.';

-- What an administrator ends is in the log, too, written by the function that operators use.
CREATE FUNCTION log_ended_delegation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    INSERT INTO public.admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    VALUES (NEW.tenant_id, NEW.ended_at, NEW.ended_by_kind, NEW.ended_by, NEW.ended_by_name, 'delegation.ended',
        NEW.delegation_id, jsonb_build_object('was', to_jsonb(OLD) - 'tenant_id'));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION log_ended_delegation IS 'Notes in admin_log that an administrator has ended a delegation. With its owner''s rights: operators'' function cannot write the log.';
CREATE TRIGGER delegations_ended AFTER UPDATE ON delegations
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_by_kind = 'admin') EXECUTE FUNCTION log_ended_delegation();

-- ---------------------------------------------------------------- claims
CREATE TABLE claims (
    request_id    uuid        NOT NULL,
    tenant_id     text        NOT NULL,
    operator_id   text        NOT NULL,
    operator_name text,
    claimed_until timestamptz NOT NULL,
    CONSTRAINT claims_pkey PRIMARY KEY (request_id)
);
COMMENT ON TABLE claims IS 'Who says to be at a request: advice to others, no lock. Counts while the request is pending.';
COMMENT ON COLUMN claims.request_id IS 'The request.';
COMMENT ON COLUMN claims.tenant_id IS 'Of its agent.';
COMMENT ON COLUMN claims.operator_id IS 'The operator.';
COMMENT ON COLUMN claims.operator_name IS 'The operator''s name as the token gave it.';
COMMENT ON COLUMN claims.claimed_until IS 'Until when.';

-- ---------------------------------------------------------------- who may decide
ALTER TABLE hitl_decisions ADD COLUMN decided_for_name text;
COMMENT ON COLUMN hitl_decisions.decided_for_name IS 'Name of the operator who was acted for.';

-- Not inlined, as they look at tables: they cost what they do only where a statement has to ask.
CREATE FUNCTION may_decide(
    tenant text, assigned_groups text[], assigned_operators text[], person jsonb, at timestamptz
) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN person ->> 'for' IS NULL THEN
        (assigned_groups IS NULL AND assigned_operators IS NULL)
        OR COALESCE(person ->> 'id' = ANY (assigned_operators), false)
        OR COALESCE(assigned_groups && ARRAY(SELECT jsonb_array_elements_text(person -> 'groups')), false)
    ELSE EXISTS (
        SELECT FROM delegations d
        JOIN operators o ON o.tenant_id = d.tenant_id AND o.operator_id = d.delegator_id
        WHERE d.tenant_id = tenant AND d.delegator_id = person ->> 'for' AND d.delegate_id = person ->> 'id'
            AND d.starts_at <= at AND d.ends_at > at
            AND o.status = 'active' AND o.seen_at > at - interval '14 days'
            AND (
                (assigned_groups IS NULL AND assigned_operators IS NULL)
                -- What was delegated, and the delegator still has.
                OR EXISTS (
                    SELECT FROM unnest(assigned_groups) AS g (name) WHERE g.name = ANY (d.groups) AND g.name = ANY (o.groups)
                )
            )
    ) END;
END;
COMMENT ON FUNCTION may_decide IS 'Whether a person may decide a request that is assigned like this (null, null: to everyone of the tenant). The person is {id, known_as, groups, for}; where there is a for, what counts is what was delegated by them, never what the person may as such.';

CREATE FUNCTION is_own_request(tenant text, requester text, terms jsonb, person jsonb) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT requester IS NOT NULL AND NOT COALESCE(terms @> '{"requester_may_decide": true}', false) AND (
        COALESCE(person -> 'known_as' ? requester, false)
        OR EXISTS (
            SELECT FROM operators o
            WHERE o.tenant_id = tenant AND o.operator_id = person ->> 'for'
                AND (requester = ANY (o.known_as) OR requester = lower(o.operator_id))
        )
    );
END;
COMMENT ON FUNCTION is_own_request IS 'Whether an approval of this person, or of the one they act for, would be the requester''s own. requester: on_behalf_of, in lower case.';

CREATE FUNCTION acting_actor(kind text, id text, name text, person jsonb) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN left(chain_actor(kind, id, name), -1)
        || ',"for":{"id":' || json_text(person ->> 'for') || ',"name":' || json_text(person ->> 'for_name') || '}}';
COMMENT ON FUNCTION acting_actor IS 'Who did it for whom, as a JSON object: chain_actor with the member for.';

-- ---------------------------------------------------------------- what submissions read
CREATE OR REPLACE VIEW active_keys WITH (security_invoker = true) AS
    SELECT k.key_id, k.agent_id, a.tenant_id, k.scopes, k.execute_agents, k.execute_action_types, a.rules_version
    FROM agent_keys k JOIN agents a ON a.agent_id = k.agent_id
    WHERE k.revoked_at IS NULL AND a.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now());
COMMENT ON VIEW active_keys IS 'Keys that are accepted (not revoked, not expired, of an agent that is not disabled), with the version of their tenant''s rules.';

-- ---------------------------------------------------------------- grants
GRANT SELECT, INSERT, UPDATE ON delegations, rule_failures TO relaytrace_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON claims TO relaytrace_app;
