-- What the functions' roles may do. `migrate` applies this file each time, with the deployment's own names: it is safe to
-- repeat, and makes the grants again in a cluster that a dump was restored into.
--
-- Three authorities, and relaytrace_app, which is all of them in one:
--   relaytrace_agent   what agents do: ingest, poll, bridge
--   relaytrace_people  what operators do: decide
--   relaytrace_ops     what time and administrators do: timeout-sweep, replay, admin
-- Each may read what it shows. Decisions and chain entries it adds only of causes and kinds that are its own; what is
-- final, nobody changes (triggers) and no role here may change (grants).
SET LOCAL lock_timeout = '2s';

-- ---------------------------------------------------------------- to read
GRANT USAGE ON SCHEMA public TO relaytrace_app, relaytrace_agent, relaytrace_people, relaytrace_ops;
-- No secret is in a table but those of channels, encrypted: keys are public halves.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO relaytrace_app, relaytrace_ops;
GRANT SELECT ON
    agents, agent_keys, active_keys, deliverables, agent_caps, agent_polls, tenants, timeout_policies, rules, freezes, hitl_requests,
    request_envelopes, request_dedupe, request_groups, hitl_decisions, decision_values, approval_chain, deliveries,
    dead_letters, outbox, outcomes_due, attestation_start, epochs, hook_waits, rule_failures, rule_effects, rule_uses, delegations, claims,
    operators, _sqlx_migrations
    TO relaytrace_agent, relaytrace_people;

-- ---------------------------------------------------------------- all authorities
-- Events go out by whoever has written them, and what is refused becomes a dead letter.
GRANT INSERT, UPDATE, DELETE ON outbox TO relaytrace_app, relaytrace_agent, relaytrace_people, relaytrace_ops;
GRANT INSERT ON dead_letters TO relaytrace_app, relaytrace_agent, relaytrace_people, relaytrace_ops;
-- Who has deleted an event from the outbox queues it for those who listen.
GRANT INSERT ON events_to_tell TO relaytrace_app, relaytrace_agent, relaytrace_people, relaytrace_ops;
GRANT SELECT (request_id, seq) ON events_to_tell TO relaytrace_agent, relaytrace_people;
GRANT SELECT (tenant_id, agent_id, of_agent, event_kinds, removed_at) ON listeners TO relaytrace_agent, relaytrace_people;
GRANT UPDATE (first_used_at) ON agent_keys TO relaytrace_app, relaytrace_agent, relaytrace_people, relaytrace_ops;
GRANT UPDATE (pending, pending_p1) ON agent_caps
    TO relaytrace_app, relaytrace_agent, relaytrace_people, relaytrace_ops;
GRANT INSERT ON hitl_decisions, decision_values, approval_chain
    TO relaytrace_app, relaytrace_agent, relaytrace_people, relaytrace_ops;
GRANT INSERT (request_id, agent_id, state, attempt, delivery_id, lease_expires_at, visible_at, expires_at, named_only)
    ON deliveries
    TO relaytrace_app, relaytrace_agent, relaytrace_people, relaytrace_ops;
-- The head of a chain, and what a decision and its use leave in the request's row. Never what was asked.
GRANT UPDATE (status, changed_at, chain_length, chain_head, approved_digest, permit_expires_at, consumed_at,
    consumed_by, consume_key, execution) ON hitl_requests
    TO relaytrace_app, relaytrace_agent, relaytrace_people, relaytrace_ops;

-- ---------------------------------------------------------------- relaytrace_agent
GRANT INSERT ON hitl_requests, request_envelopes, request_groups TO relaytrace_app, relaytrace_agent;
GRANT INSERT, UPDATE ON request_dedupe, agent_polls TO relaytrace_app, relaytrace_agent;
GRANT INSERT, UPDATE (failures) ON rule_failures TO relaytrace_app, relaytrace_agent;
GRANT INSERT, UPDATE (applied, would) ON rule_effects TO relaytrace_app, relaytrace_agent;
GRANT INSERT, UPDATE (scope, most, per_seconds, started_at, uses, granted) ON rule_uses TO relaytrace_app, relaytrace_agent;
GRANT UPDATE (state, attempt, visible_at, expires_at, delivery_id, lease_expires_at, result, error_code, error_message,
    named_only, dead_letter_id) ON deliveries TO relaytrace_app, relaytrace_agent;
GRANT UPDATE ON dead_letters TO relaytrace_app, relaytrace_agent;
GRANT INSERT, DELETE ON outcomes_due TO relaytrace_app, relaytrace_agent;
-- A lock on a row needs the right to update some column of it.
GRANT INSERT, UPDATE, DELETE ON hook_waits TO relaytrace_app, relaytrace_agent;
-- Instances; the policies below say which.
GRANT INSERT (key_id, agent_id, alg, public_key, master_id, scopes, instance_name, instance_of, instance_sha256,
        expires_at) ON agent_keys TO relaytrace_app, relaytrace_agent;
GRANT INSERT (tenant_id, of_agent, key_id, kind, config, sealed, event_kinds, created_at, updated_at, updated_by) ON listeners
    TO relaytrace_app, relaytrace_agent;

-- ---------------------------------------------------------------- relaytrace_people
GRANT UPDATE (assigned_groups, assigned_operators, approvals_given, voters, votes) ON hitl_requests TO relaytrace_app, relaytrace_people;
GRANT INSERT, DELETE ON outcomes_due TO relaytrace_app, relaytrace_people;
GRANT INSERT, UPDATE (ended_at, ended_by_kind, ended_by, ended_by_name) ON delegations TO relaytrace_app, relaytrace_people;
GRANT INSERT, UPDATE, DELETE ON claims TO relaytrace_app, relaytrace_people;
-- Their browsers; the policies below say which.
GRANT SELECT (listener_id, kind, operator_id, subscription_id, target_sha256, matching, created_at, updated_at),
    INSERT (tenant_id, operator_id, subscription_id, kind, config, target_sha256, event_kinds, matching, created_at,
        updated_at, updated_by),
    UPDATE (config, target_sha256, event_kinds, matching, created_at, updated_at, updated_by, removed_at), DELETE
    ON listeners TO relaytrace_app, relaytrace_people;

-- Operators as their tokens describe them; only an administrator blocks one.
GRANT INSERT (tenant_id, operator_id, name, email, groups, known_as, first_seen_at, seen_at),
    UPDATE (name, email, groups, known_as, seen_at) ON operators TO relaytrace_app, relaytrace_people, relaytrace_ops;

-- As releases before this one granted it.
REVOKE UPDATE (approvals_given, voters) ON hitl_requests FROM relaytrace_agent, relaytrace_ops;

-- ---------------------------------------------------------------- relaytrace_ops
GRANT UPDATE (status, blocked_at, blocked_by) ON operators TO relaytrace_app, relaytrace_ops;
-- Those of an operator who is blocked end.
GRANT UPDATE (ended_at, ended_by_kind, ended_by, ended_by_name) ON delegations TO relaytrace_app, relaytrace_ops;
GRANT DELETE ON claims TO relaytrace_app, relaytrace_ops;
GRANT UPDATE (priority, respond_by, on_timeout, escalate_at, escalated_at, counted, assigned_groups) ON hitl_requests
    TO relaytrace_app, relaytrace_ops;
GRANT UPDATE (state, visible_at, expires_at, replayed, replayed_seq, replayed_by, replay_reason, dead_letter_id)
    ON deliveries TO relaytrace_app, relaytrace_ops;
GRANT INSERT, UPDATE ON agents, agent_keys, agent_caps, replays, tenants, freezes TO relaytrace_app, relaytrace_ops;
GRANT UPDATE ON dead_letters TO relaytrace_app, relaytrace_ops;
GRANT INSERT, UPDATE, DELETE ON timeout_policies, sweep_failures TO relaytrace_app, relaytrace_ops;
GRANT INSERT, UPDATE ON listeners TO relaytrace_app, relaytrace_ops;
GRANT UPDATE, DELETE ON events_to_tell TO relaytrace_app, relaytrace_ops;
GRANT INSERT, UPDATE, DELETE ON notifications TO relaytrace_app, relaytrace_ops;
GRANT INSERT ON rules, admin_log TO relaytrace_app, relaytrace_ops;
GRANT INSERT, UPDATE (due_at, unknown_at), DELETE ON outcomes_due TO relaytrace_app, relaytrace_ops;
-- The purge. A lock on a row needs the right to update some column of it.
GRANT UPDATE (expires_at), DELETE ON request_dedupe TO relaytrace_app, relaytrace_ops;
GRANT UPDATE (answered_at), DELETE ON hook_waits TO relaytrace_app, relaytrace_ops;

-- ---------------------------------------------------------------- causes and kinds
DO $$
BEGIN
    IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = 'hitl_decisions'::regclass) THEN
        ALTER TABLE hitl_decisions ENABLE ROW LEVEL SECURITY;
    END IF;
    IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = 'approval_chain'::regclass) THEN
        ALTER TABLE approval_chain ENABLE ROW LEVEL SECURITY;
    END IF;
    IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = 'listeners'::regclass) THEN
        ALTER TABLE listeners ENABLE ROW LEVEL SECURITY;
    END IF;
    IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = 'agent_keys'::regclass) THEN
        ALTER TABLE agent_keys ENABLE ROW LEVEL SECURITY;
    END IF;
END
$$;

-- A decision is its cause's, an entry its kind's. Roles are named in the check and not as the policy's own: a dump would
-- not restore where they are missing.
CREATE FUNCTION pg_temp.may_write(value text, of_agent text[], of_people text[], of_ops text[]) RETURNS text
    LANGUAGE sql AS $$
    SELECT format(
        'pg_has_role(current_user, ''relaytrace_app'', ''USAGE'')
            OR (%1$s = ANY (%2$L::text[]) AND pg_has_role(current_user, ''relaytrace_agent'', ''USAGE''))
            OR (%1$s = ANY (%3$L::text[]) AND pg_has_role(current_user, ''relaytrace_people'', ''USAGE''))
            OR (%1$s = ANY (%4$L::text[]) AND pg_has_role(current_user, ''relaytrace_ops'', ''USAGE''))',
        value, of_agent, of_people, of_ops)
$$;
-- Made again only where it says something else: a policy takes its table's lock.
CREATE FUNCTION pg_temp.make_policy(policy text, of_table text, command text, holds text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    said text := 'md5 of what it says: ' || md5(holds);
BEGIN
    IF said IS DISTINCT FROM (
        SELECT obj_description(p.oid, 'pg_policy') FROM pg_policy p
        WHERE p.polname = policy AND p.polrelid = of_table::regclass
    ) THEN
        EXECUTE format('DROP POLICY IF EXISTS %I ON %I', policy, of_table);
        EXECUTE format('CREATE POLICY %I ON %I FOR %s %s', policy, of_table, command, holds);
        EXECUTE format('COMMENT ON POLICY %I ON %I IS %L', policy, of_table, said);
    END IF;
END
$$;
SELECT pg_temp.make_policy('hitl_decisions_read', 'hitl_decisions', 'SELECT', 'USING (true)');
SELECT pg_temp.make_policy('approval_chain_read', 'approval_chain', 'SELECT', 'USING (true)');
SELECT pg_temp.make_policy('hitl_decisions_of_own_cause', 'hitl_decisions', 'INSERT', 'WITH CHECK ('
    || pg_temp.may_write('cause', ARRAY['agent', 'policy'], ARRAY['operator'], ARRAY['timeout', 'admin']) || ')');
-- A decided entry is never dated before attestations were asked for: what has none by then gets no receipt.
SELECT pg_temp.make_policy('approval_chain_of_own_kind', 'approval_chain', 'INSERT', 'WITH CHECK (('
    || pg_temp.may_write('kind',
        ARRAY['submitted', 'decided', 'acknowledged', 'dead_lettered', 'consumed', 'outcome'],
        ARRAY['decided', 'voted', 'rerouted', 'consumed', 'outcome'],
        ARRAY['decided', 'escalated', 'extended', 'reprioritised', 'dead_lettered', 'replayed', 'rerouted', 'outcome'])
    || format(') AND (kind <> ''decided'' OR at >= LEAST(%L::timestamptz, now())))', attested_from))
FROM attestation_start;
-- Agents make instances of themselves and operators see to browsers of their own; channels and pushes are administrators'.
SELECT pg_temp.make_policy('listeners_read', 'listeners', 'SELECT', 'USING (true)');
SELECT pg_temp.make_policy('listeners_of_own_kind', 'listeners', 'INSERT', 'WITH CHECK ('
    || pg_temp.may_write('kind', ARRAY['instance'], ARRAY['browser'],
        ARRAY['webhook', 'slack', 'email', 'push', 'instance', 'browser']) || ')');
SELECT pg_temp.make_policy('listeners_changed_of_own_kind', 'listeners', 'UPDATE', 'USING ('
    || pg_temp.may_write('kind', '{}', ARRAY['browser'],
        ARRAY['webhook', 'slack', 'email', 'push', 'instance', 'browser']) || ')');
SELECT pg_temp.make_policy('listeners_forgotten_of_own_kind', 'listeners', 'DELETE', 'USING ('
    || pg_temp.may_write('kind', '{}', ARRAY['browser'], '{}') || ')');
-- Who asks for agents makes keys that ask and use, by a key of the same agent; others are administrators'.
SELECT pg_temp.make_policy('agent_keys_read', 'agent_keys', 'SELECT', 'USING (true)');
SELECT pg_temp.make_policy('agent_keys_changed', 'agent_keys', 'UPDATE', 'USING (true)');
SELECT pg_temp.make_policy('agent_keys_of_instances', 'agent_keys', 'INSERT', 'WITH CHECK (('
    || pg_temp.may_write('CASE WHEN instance_of IS NULL THEN ''key'' ELSE ''instance'' END', ARRAY['instance'], '{}',
        ARRAY['key', 'instance'])
    || ') AND (instance_of IS NULL OR alg = ''bearer'' AND scopes <@ ARRAY[''ask'', ''execute'']))');
DROP FUNCTION pg_temp.make_policy;
DROP FUNCTION pg_temp.may_write;
