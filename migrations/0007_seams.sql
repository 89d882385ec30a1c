-- One step for what the statements learn next: tenants, answers other than yes and no, votes, assignment, permits,
-- rules and freezes. What nothing writes yet is null and costs nothing. Additive: the binaries before it keep working.
--
-- A CHECK that lists known values is replaced by a wider one here: binaries of either release satisfy both. It is not
-- valid for the rows that are there until 0008 has looked at them, so that no table is locked while it is read.
SET LOCAL lock_timeout = '2s';

-- ---------------------------------------------------------------- tenants
CREATE TABLE tenants (
    tenant_id              text        NOT NULL,
    status                 text        NOT NULL DEFAULT 'active',
    submissions_per_minute integer,
    max_agents             integer,
    created_at             timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT tenants_tenant_id_well_formed CHECK (tenant_id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    CONSTRAINT tenants_status_known CHECK (status IN ('active', 'suspended')),
    CONSTRAINT tenants_limits_positive CHECK (submissions_per_minute > 0 AND max_agents > 0)
);
COMMENT ON TABLE tenants IS 'Whose everything is. What belongs to another tenant does not exist.';
COMMENT ON COLUMN tenants.tenant_id IS 'Chosen by the owner, never reused.';
COMMENT ON COLUMN tenants.status IS 'active or suspended.';
COMMENT ON COLUMN tenants.submissions_per_minute IS 'Limit of submissions; null: none.';
COMMENT ON COLUMN tenants.max_agents IS 'Limit of registered agents; null: none.';
COMMENT ON COLUMN tenants.created_at IS 'When it was made.';
INSERT INTO tenants (tenant_id) VALUES ('default');

ALTER TABLE agents
    ADD COLUMN tenant_id text NOT NULL DEFAULT 'default',
    ADD CONSTRAINT agents_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id) NOT VALID;
COMMENT ON COLUMN agents.tenant_id IS 'Given at registration, never changed. Copied to what people see, so that no list joins agents.';

ALTER TABLE dead_letters ADD COLUMN tenant_id text NOT NULL DEFAULT 'default';
COMMENT ON COLUMN dead_letters.tenant_id IS 'Of its agent.';
ALTER TABLE replays ADD COLUMN tenant_id text NOT NULL DEFAULT 'default';
COMMENT ON COLUMN replays.tenant_id IS 'Of the administrator who ordered it: only requests of this tenant go out again.';
ALTER TABLE timeout_policies ADD COLUMN tenant_id text;
COMMENT ON COLUMN timeout_policies.tenant_id IS 'Null: a policy of the deployment, for every tenant that has none of its own.';

-- ---------------------------------------------------------------- requests
ALTER TABLE hitl_requests
    ADD COLUMN tenant_id text NOT NULL DEFAULT 'default',
    ADD COLUMN answers text[],
    ADD COLUMN group_key text,
    ADD COLUMN on_behalf_of text,
    ADD COLUMN protocol text,
    ADD COLUMN rules_version integer,
    ADD COLUMN rule_name text,
    ADD COLUMN rule_terms jsonb,
    ADD COLUMN assigned_groups text[],
    ADD COLUMN assigned_operators text[],
    ADD COLUMN approvals_required smallint,
    ADD COLUMN approvals_given smallint,
    ADD COLUMN voters text[],
    ADD COLUMN permit_seconds integer,
    ADD COLUMN permit_expires_at timestamptz,
    ADD COLUMN consume_required boolean,
    ADD COLUMN execution text,
    ADD COLUMN consumed_at timestamptz,
    ADD COLUMN consumed_by text,
    ADD COLUMN consume_key text,
    ADD CONSTRAINT hitl_requests_answers_known
        CHECK (answers <@ ARRAY['approve', 'reject', 'edit', 'respond']) NOT VALID,
    ADD CONSTRAINT hitl_requests_approvals_possible
        CHECK (approvals_required BETWEEN 1 AND 10 AND approvals_given >= 0) NOT VALID,
    ADD CONSTRAINT hitl_requests_permit_bounded CHECK (permit_seconds BETWEEN 10 AND 86400) NOT VALID,
    ADD CONSTRAINT hitl_requests_execution_known
        CHECK (execution IN ('consumed', 'succeeded', 'failed', 'unknown')) NOT VALID,
    ADD CONSTRAINT hitl_requests_consumed_whole CHECK (
        (execution IS NULL) = (consumed_at IS NULL) AND (consumed_at IS NULL) = (consumed_by IS NULL)
        AND (consumed_at IS NULL) = (consume_key IS NULL)
    ) NOT VALID;
COMMENT ON COLUMN hitl_requests.tenant_id IS 'Of its agent.';
COMMENT ON COLUMN hitl_requests.answers IS 'What its agent can take: approve, reject, edit, respond; null: approve and reject.';
COMMENT ON COLUMN hitl_requests.group_key IS 'Requests of one agent that belong together; also in request_groups.';
COMMENT ON COLUMN hitl_requests.on_behalf_of IS 'Id of the person for whom the agent acts, who may not approve it.';
COMMENT ON COLUMN hitl_requests.protocol IS 'The bridge''s protocol; null: RelayTrace''s own.';
COMMENT ON COLUMN hitl_requests.rules_version IS 'Version of the tenant''s rules that were asked; null: none.';
COMMENT ON COLUMN hitl_requests.rule_name IS 'The rule that applied; null: none did.';
COMMENT ON COLUMN hitl_requests.rule_terms IS 'What the rule says of it beyond the columns here: where it may be rerouted and escalated to, whether the requester may decide.';
COMMENT ON COLUMN hitl_requests.assigned_groups IS 'Groups whose operators may decide it; null with assigned_operators: any operator of the tenant.';
COMMENT ON COLUMN hitl_requests.assigned_operators IS 'Operators who may decide it.';
COMMENT ON COLUMN hitl_requests.approvals_required IS 'Approvals that decide; null: one.';
COMMENT ON COLUMN hitl_requests.approvals_given IS 'Approvals so far, counted in the locked row: never by a look at other rows.';
COMMENT ON COLUMN hitl_requests.voters IS 'Who has voted or was acted for: nobody counts twice.';
COMMENT ON COLUMN hitl_requests.permit_seconds IS 'How long an approval may be used; null: the deployment''s.';
COMMENT ON COLUMN hitl_requests.permit_expires_at IS 'Until when it may be used; null: not approved, or decided before permits were written.';
COMMENT ON COLUMN hitl_requests.consume_required IS 'Whether the delivery can be accepted only after the permit was consumed.';
COMMENT ON COLUMN hitl_requests.execution IS 'consumed, succeeded, failed or unknown; null: not consumed.';
COMMENT ON COLUMN hitl_requests.consumed_at IS 'When the permit was used. A permit is used once.';
COMMENT ON COLUMN hitl_requests.consumed_by IS 'Key of the program that used it.';
COMMENT ON COLUMN hitl_requests.consume_key IS 'Its attempt to run: the same key again is the same use.';

ALTER TABLE hitl_decisions
    ADD COLUMN tenant_id text NOT NULL DEFAULT 'default',
    ADD COLUMN decided_for text,
    ADD COLUMN edited boolean,
    DROP CONSTRAINT hitl_decisions_outcome_known,
    DROP CONSTRAINT hitl_decisions_cause_known,
    DROP CONSTRAINT hitl_decisions_timeout_is_no_person,
    ADD CONSTRAINT hitl_decisions_outcome_known
        CHECK (outcome IN ('approved', 'rejected', 'cancelled', 'responded')) NOT VALID,
    ADD CONSTRAINT hitl_decisions_cause_known
        CHECK (cause IN ('operator', 'timeout', 'admin', 'agent', 'policy')) NOT VALID,
    ADD CONSTRAINT hitl_decisions_timeout_is_no_person
        CHECK ((cause IN ('timeout', 'policy')) = (decided_by_kind = 'system') OR cause = 'admin') NOT VALID;
COMMENT ON COLUMN hitl_decisions.tenant_id IS 'Of its agent.';
COMMENT ON COLUMN hitl_decisions.outcome IS 'approved, rejected, cancelled or responded.';
COMMENT ON COLUMN hitl_decisions.cause IS 'operator, timeout, admin, agent or policy.';
COMMENT ON COLUMN hitl_decisions.decided_for IS 'Id of the operator who was acted for.';
COMMENT ON COLUMN hitl_decisions.edited IS 'Whether the operator changed the action; null: no.';

ALTER TABLE approval_chain
    DROP CONSTRAINT approval_chain_kind_known,
    ADD CONSTRAINT approval_chain_kind_known CHECK (kind IN (
        'submitted', 'escalated', 'extended', 'reprioritised', 'decided', 'acknowledged', 'dead_lettered', 'replayed',
        'voted', 'rerouted', 'consumed', 'outcome'
    )) NOT VALID;

CREATE TABLE decision_values (
    request_id uuid    NOT NULL,
    seq        integer NOT NULL,
    action     bytea,
    response   bytea,
    CONSTRAINT decision_values_pkey PRIMARY KEY (request_id, seq),
    CONSTRAINT decision_values_one_of_them CHECK ((action IS NULL) <> (response IS NULL))
);
COMMENT ON TABLE decision_values IS 'What an operator wrote instead of a plain yes: beside the chain, whose entry holds its digest.';
COMMENT ON COLUMN decision_values.request_id IS 'The request.';
COMMENT ON COLUMN decision_values.seq IS 'The chain entry that holds the digest.';
COMMENT ON COLUMN decision_values.action IS 'The edited action, the exact bytes.';
COMMENT ON COLUMN decision_values.response IS 'The response, the exact bytes.';

CREATE TABLE request_groups (
    agent_id   text NOT NULL,
    group_key  text NOT NULL,
    request_id uuid NOT NULL,
    CONSTRAINT request_groups_pkey PRIMARY KEY (agent_id, group_key, request_id)
);
COMMENT ON TABLE request_groups IS 'Lists by group: an index of its own, because one on hitl_requests would cost every decision.';
COMMENT ON COLUMN request_groups.agent_id IS 'Whose group.';
COMMENT ON COLUMN request_groups.group_key IS 'The agent''s own name of the group.';
COMMENT ON COLUMN request_groups.request_id IS 'A request of it.';

CREATE TABLE outcomes_due (
    request_id uuid        NOT NULL,
    due_at     timestamptz NOT NULL,
    CONSTRAINT outcomes_due_pkey PRIMARY KEY (request_id)
);
CREATE INDEX outcomes_due_at ON outcomes_due (due_at);
COMMENT ON TABLE outcomes_due IS 'Permits that were consumed and whose outcome is not reported yet.';
COMMENT ON COLUMN outcomes_due.request_id IS 'The request.';
COMMENT ON COLUMN outcomes_due.due_at IS 'From when on a sweep says that the outcome is unknown.';

-- ---------------------------------------------------------------- rules, freezes
CREATE TABLE rules (
    tenant_id       text        NOT NULL,
    version         integer     NOT NULL,
    document        bytea       NOT NULL,
    note            text        NOT NULL,
    created_at      timestamptz NOT NULL,
    created_by      text        NOT NULL,
    created_by_name text,
    CONSTRAINT rules_pkey PRIMARY KEY (tenant_id, version),
    CONSTRAINT rules_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT rules_versions_start_at_one CHECK (version >= 1),
    CONSTRAINT rules_document_within_256_kib CHECK (octet_length(document) <= 262144)
);
COMMENT ON TABLE rules IS 'Every version of a tenant''s rules. The newest applies; none is ever changed.';
COMMENT ON COLUMN rules.tenant_id IS 'Whose rules.';
COMMENT ON COLUMN rules.version IS '1, then without gaps.';
COMMENT ON COLUMN rules.document IS 'The rules, JSON.';
COMMENT ON COLUMN rules.note IS 'Why.';
COMMENT ON COLUMN rules.created_at IS 'When.';
COMMENT ON COLUMN rules.created_by IS 'The administrator.';
COMMENT ON COLUMN rules.created_by_name IS 'The administrator''s name as the token gave it.';

CREATE TABLE freezes (
    tenant_id   text        NOT NULL,
    freeze_id   text        NOT NULL,
    agent_id    text,
    action_type text,
    mode        text        NOT NULL,
    until       timestamptz,
    reason      text        NOT NULL,
    created_at  timestamptz NOT NULL,
    created_by  text        NOT NULL,
    ended_at    timestamptz,
    ended_by    text,
    CONSTRAINT freezes_pkey PRIMARY KEY (tenant_id, freeze_id, created_at),
    CONSTRAINT freezes_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT freezes_mode_known CHECK (mode IN ('hold', 'stop')),
    CONSTRAINT freezes_hold_ends CHECK (mode <> 'hold' OR until <= created_at + interval '7 days'),
    CONSTRAINT freezes_ended_whole CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
CREATE UNIQUE INDEX freezes_one_in_force ON freezes (tenant_id, freeze_id) WHERE ended_at IS NULL;
COMMENT ON TABLE freezes IS 'What nobody may use or approve for now. Rows stay: a stop revokes what was decided before it for ever.';
COMMENT ON COLUMN freezes.tenant_id IS 'Whose freeze.';
COMMENT ON COLUMN freezes.freeze_id IS 'The administrator''s own name of it.';
COMMENT ON COLUMN freezes.agent_id IS 'Null: any agent.';
COMMENT ON COLUMN freezes.action_type IS 'Null: any action type.';
COMMENT ON COLUMN freezes.mode IS 'hold or stop.';
COMMENT ON COLUMN freezes.until IS 'When it ends by itself; a hold always does.';
COMMENT ON COLUMN freezes.reason IS 'Why.';
COMMENT ON COLUMN freezes.created_at IS 'From when on.';
COMMENT ON COLUMN freezes.created_by IS 'The administrator.';
COMMENT ON COLUMN freezes.ended_at IS 'When it was taken away.';
COMMENT ON COLUMN freezes.ended_by IS 'Who did.';

-- ---------------------------------------------------------------- what administrators did
CREATE TABLE admin_log (
    log_id     uuid        NOT NULL DEFAULT gen_random_uuid(),
    tenant_id  text,
    at         timestamptz NOT NULL,
    actor_kind text        NOT NULL,
    actor_id   text        NOT NULL,
    actor_name text,
    action     text        NOT NULL,
    subject    text        NOT NULL,
    details    jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT admin_log_pkey PRIMARY KEY (log_id)
);
CREATE INDEX admin_log_newest ON admin_log (tenant_id, at, log_id);
COMMENT ON TABLE admin_log IS 'What administrators, owners and offboarding did: append-only, written by the statement that did it.';
COMMENT ON COLUMN admin_log.log_id IS 'Names it; says nothing of its time.';
COMMENT ON COLUMN admin_log.tenant_id IS 'Where; null: the deployment.';
COMMENT ON COLUMN admin_log.at IS 'When.';
COMMENT ON COLUMN admin_log.actor_kind IS 'admin, owner or system.';
COMMENT ON COLUMN admin_log.actor_id IS 'The token''s sub, or the program.';
COMMENT ON COLUMN admin_log.actor_name IS 'The person''s name as the token gave it.';
COMMENT ON COLUMN admin_log.action IS 'What, for programs: agent.registered, key.revoked and so on.';
COMMENT ON COLUMN admin_log.subject IS 'To what: an agent, a key, a policy, a request.';
COMMENT ON COLUMN admin_log.details IS 'What it was and became.';

CREATE TRIGGER decision_values_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON decision_values
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER rules_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON rules
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER admin_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admin_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- ALWAYS: also where session_replication_role is set to replica.
ALTER TABLE decision_values ENABLE ALWAYS TRIGGER decision_values_append_only;
ALTER TABLE rules ENABLE ALWAYS TRIGGER rules_append_only;
ALTER TABLE admin_log ENABLE ALWAYS TRIGGER admin_log_append_only;

-- ---------------------------------------------------------------- deliveries
ALTER TABLE deliveries
    ADD COLUMN dead_letter_id uuid,
    ADD COLUMN named_only boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN deliveries.dead_letter_id IS 'Its open dead letter: here, because a statement that waited for this row sees the row as it became, and nothing beside it.';
COMMENT ON COLUMN deliveries.named_only IS 'Only a poll that names the request gets it.';

-- ---------------------------------------------------------------- what statements share
CREATE VIEW active_keys WITH (security_invoker = true) AS
    SELECT k.key_id, k.agent_id, a.tenant_id
    FROM agent_keys k JOIN agents a ON a.agent_id = k.agent_id
    WHERE k.revoked_at IS NULL AND a.status = 'active';
COMMENT ON VIEW active_keys IS 'Keys whose tokens are accepted: not revoked, of an agent that is not disabled.';

-- Plain SQL functions, which the planner inlines.
CREATE FUNCTION at_or_now(given timestamptz) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    RETURN COALESCE(given, now());
COMMENT ON FUNCTION at_or_now IS 'The time that a test gives, else the statement''s.';
CREATE FUNCTION at_or_clock(given timestamptz) RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN COALESCE(given, clock_timestamp());
COMMENT ON FUNCTION at_or_clock IS 'The time that a test gives, else the clock''s: after a lock wait it is later than the statement''s.';

CREATE FUNCTION handoff_event(
    kind text, request_id uuid, seq integer, at timestamptz, agent_id text, client_request_key text,
    priority smallint, action_digest bytea, head bytea, outcome text, cause text, tenant_id text
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN convert_to(
        '{"specversion":"1.0","id":"' || request_id || '/' || seq
        || '","source":"/relaytrace","type":"handoff.' || kind
        || '","subject":"' || request_id || '","time":"' || rfc3339(at)
        || '","datacontenttype":"application/json","sequence":' || seq
        || ',"data":{"agent_id":"' || agent_id || '","client_request_key":"' || client_request_key
        || '","priority":"P' || priority || '","action_digest":"' || digest_text(action_digest)
        || '","chain":{"length":' || seq || ',"head":"' || digest_text(head) || '"}'
        || CASE WHEN outcome IS NULL THEN '' ELSE ',"outcome":"' || outcome || '","cause":"' || cause || '"' END
        || CASE WHEN tenant_id = 'default' THEN '' ELSE ',"tenant":"' || tenant_id || '"' END
        || '}}', 'UTF8');
COMMENT ON FUNCTION handoff_event(
    text, uuid, integer, timestamptz, text, text, smallint, bytea, bytea, text, text, text
) IS 'The bytes of one CloudEvent: a function of stored values only, so that a replay repeats them.';

CREATE FUNCTION first_uuid_at(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;
COMMENT ON FUNCTION first_uuid_at IS 'The least UUIDv7 of a moment: what was made before it has a smaller one.';

-- ---------------------------------------------------------------- grants
GRANT SELECT ON active_keys TO relaytrace_app;
GRANT SELECT, INSERT, UPDATE ON tenants, freezes TO relaytrace_app;
GRANT SELECT, INSERT, DELETE ON outcomes_due TO relaytrace_app;
GRANT SELECT, INSERT ON decision_values, request_groups, rules, admin_log TO relaytrace_app;
