-- The schema of RelayTrace. Invariants are named constraints; what is final is
-- kept by grants for the application's role and by triggers for everyone.

-- ---------------------------------------------------------------- application role
DO $$
BEGIN
    CREATE ROLE relaytrace_app NOLOGIN;
EXCEPTION
    -- Roles belong to the whole cluster: another database may have made it, or is making it now.
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

-- ---------------------------------------------------------------- agents and their keys
CREATE TABLE agents (
    agent_id   text        NOT NULL,
    name       text        NOT NULL,
    status     text        NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT agents_pkey PRIMARY KEY (agent_id),
    CONSTRAINT agents_agent_id_well_formed CHECK (agent_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    CONSTRAINT agents_status_known CHECK (status IN ('active', 'disabled'))
);
COMMENT ON TABLE agents IS 'Registered programs that may ask. A disabled agent stops working at its next call.';
COMMENT ON COLUMN agents.agent_id IS 'Chosen by the administrator, never reused.';
COMMENT ON COLUMN agents.name IS 'For people; shown nowhere a program relies on.';
COMMENT ON COLUMN agents.status IS 'active or disabled.';
COMMENT ON COLUMN agents.created_at IS 'When it was registered.';

CREATE TABLE agent_keys (
    key_id        text        NOT NULL,
    agent_id      text        NOT NULL,
    alg           text        NOT NULL,
    public_key    bytea       NOT NULL,
    master_id     text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    first_used_at timestamptz,
    revoked_at    timestamptz,
    CONSTRAINT agent_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT agent_keys_agent_exists FOREIGN KEY (agent_id) REFERENCES agents (agent_id),
    CONSTRAINT agent_keys_key_id_well_formed CHECK (key_id ~ '^[A-Za-z0-9._-]{1,128}$'),
    CONSTRAINT agent_keys_alg_known CHECK (alg IN ('EdDSA', 'ES256'))
);
CREATE INDEX agent_keys_by_agent ON agent_keys (agent_id);
COMMENT ON TABLE agent_keys IS 'Public keys that agents sign their tokens with. A key_id is never reused, so what is stored beside it never changes but for first_used_at and revoked_at.';
COMMENT ON COLUMN agent_keys.key_id IS 'The kid of a token; unique in the deployment.';
COMMENT ON COLUMN agent_keys.agent_id IS 'Whose key it is.';
COMMENT ON COLUMN agent_keys.alg IS 'The only algorithm that this key verifies: EdDSA (Ed25519) or ES256.';
COMMENT ON COLUMN agent_keys.public_key IS 'SubjectPublicKeyInfo, DER.';
COMMENT ON COLUMN agent_keys.master_id IS 'Which master secret the response secret is derived from.';
COMMENT ON COLUMN agent_keys.created_at IS 'When it was registered.';
COMMENT ON COLUMN agent_keys.first_used_at IS 'When a token of this key first verified; after that the response secret is not shown again.';
COMMENT ON COLUMN agent_keys.revoked_at IS 'Set once; from then on no token of this key is accepted.';

-- ---------------------------------------------------------------- timeout policies
CREATE TABLE timeout_policies (
    policy_id              uuid        NOT NULL DEFAULT gen_random_uuid(),
    agent_id               text,
    action_type            text,
    priority               smallint    NOT NULL,
    respond_within_seconds integer     NOT NULL,
    escalate_after_percent smallint,
    on_timeout             text        NOT NULL DEFAULT 'auto_reject',
    updated_at             timestamptz NOT NULL DEFAULT now(),
    updated_by             text        NOT NULL DEFAULT 'migration',
    CONSTRAINT timeout_policies_pkey PRIMARY KEY (policy_id),
    CONSTRAINT timeout_policies_scope_key UNIQUE NULLS NOT DISTINCT (priority, agent_id, action_type),
    CONSTRAINT timeout_policies_agent_exists FOREIGN KEY (agent_id) REFERENCES agents (agent_id),
    CONSTRAINT timeout_policies_priority_known CHECK (priority BETWEEN 1 AND 3),
    CONSTRAINT timeout_policies_respond_within_positive CHECK (respond_within_seconds > 0),
    CONSTRAINT timeout_policies_escalation_inside CHECK (escalate_after_percent BETWEEN 1 AND 99),
    CONSTRAINT timeout_policies_on_timeout_known CHECK (on_timeout IN ('auto_reject', 'auto_approve', 'raise')),
    CONSTRAINT timeout_policies_auto_approve_is_narrow CHECK (
        on_timeout <> 'auto_approve'
        OR (agent_id IS NOT NULL AND action_type IS NOT NULL AND priority > 1)
    )
);
COMMENT ON TABLE timeout_policies IS 'How long a person has and what happens then. The most specific row wins: agent and action type, agent, action type, neither.';
COMMENT ON COLUMN timeout_policies.policy_id IS 'Names the policy in the approval chain.';
COMMENT ON COLUMN timeout_policies.agent_id IS 'Null: any agent.';
COMMENT ON COLUMN timeout_policies.action_type IS 'Null: any action type.';
COMMENT ON COLUMN timeout_policies.priority IS '1, 2 or 3 for P1, P2, P3.';
COMMENT ON COLUMN timeout_policies.respond_within_seconds IS 'Time from submission to respond_by, in seconds.';
COMMENT ON COLUMN timeout_policies.escalate_after_percent IS 'Share of the time to respond_by after which the request is escalated; null: never.';
COMMENT ON COLUMN timeout_policies.on_timeout IS 'auto_reject, auto_approve (one agent and one action type, never P1) or raise.';
COMMENT ON COLUMN timeout_policies.updated_at IS 'Last change.';
COMMENT ON COLUMN timeout_policies.updated_by IS 'Administrator who made it.';

INSERT INTO timeout_policies (priority, respond_within_seconds, escalate_after_percent)
VALUES (1, 15 * 60, 50), (2, 4 * 3600, 50), (3, 24 * 3600, NULL);

-- ---------------------------------------------------------------- requests
CREATE TABLE hitl_requests (
    request_id           uuid        NOT NULL,
    agent_id             text        NOT NULL,
    client_request_key   text        NOT NULL,
    priority             smallint    NOT NULL,
    title                text        NOT NULL,
    action_type          text        NOT NULL,
    action_digest        bytea       NOT NULL,
    status               text        NOT NULL DEFAULT 'pending',
    created_at           timestamptz NOT NULL,
    respond_by           timestamptz NOT NULL,
    requested_respond_by timestamptz,
    on_timeout           text        NOT NULL,
    escalate_at          timestamptz,
    escalated_at         timestamptz,
    changed_at           timestamptz NOT NULL,
    chain_length         integer     NOT NULL,
    chain_head           bytea       NOT NULL,
    CONSTRAINT hitl_requests_pkey PRIMARY KEY (request_id),
    CONSTRAINT hitl_requests_priority_known CHECK (priority BETWEEN 1 AND 3),
    CONSTRAINT hitl_requests_status_known CHECK (status IN ('pending', 'decided')),
    CONSTRAINT hitl_requests_digests_are_sha256 CHECK (octet_length(action_digest) = 32 AND octet_length(chain_head) = 32),
    CONSTRAINT hitl_requests_respond_by_after_creation CHECK (respond_by > created_at),
    CONSTRAINT hitl_requests_client_request_key_well_formed CHECK (client_request_key ~ '^[A-Za-z0-9._:-]{1,128}$')
);
-- The queue's order; within one status and priority also what is due first.
CREATE INDEX hitl_requests_queue ON hitl_requests (status, priority, respond_by, request_id);
CREATE INDEX hitl_requests_escalation_due ON hitl_requests (escalate_at)
    WHERE status = 'pending' AND escalated_at IS NULL AND escalate_at IS NOT NULL;
COMMENT ON TABLE hitl_requests IS 'One question each. Narrow, because every change of state rewrites the row.';
COMMENT ON COLUMN hitl_requests.request_id IS 'UUIDv7, minted here.';
COMMENT ON COLUMN hitl_requests.agent_id IS 'Who asks.';
COMMENT ON COLUMN hitl_requests.client_request_key IS 'The agent''s own key, kept as given.';
COMMENT ON COLUMN hitl_requests.priority IS '1, 2 or 3 for P1, P2, P3.';
COMMENT ON COLUMN hitl_requests.title IS 'One line for the queue.';
COMMENT ON COLUMN hitl_requests.action_type IS 'Type of the action asked for.';
COMMENT ON COLUMN hitl_requests.action_digest IS 'SHA-256 over the RFC 8785 form of the action.';
COMMENT ON COLUMN hitl_requests.status IS 'pending, then decided; never back.';
COMMENT ON COLUMN hitl_requests.created_at IS 'When it was accepted, by this database''s clock.';
COMMENT ON COLUMN hitl_requests.respond_by IS 'From this moment on a person''s answer is refused.';
COMMENT ON COLUMN hitl_requests.requested_respond_by IS 'The agent''s own deadline, if it set one; no policy goes past it.';
COMMENT ON COLUMN hitl_requests.on_timeout IS 'What the policy that applied at submission does at respond_by.';
COMMENT ON COLUMN hitl_requests.escalate_at IS 'When it is to be escalated if still pending; null: never.';
COMMENT ON COLUMN hitl_requests.escalated_at IS 'When it was escalated.';
COMMENT ON COLUMN hitl_requests.changed_at IS 'Time of the newest chain entry; times in a chain never go backwards.';
COMMENT ON COLUMN hitl_requests.chain_length IS 'Number of entries in approval_chain.';
COMMENT ON COLUMN hitl_requests.chain_head IS 'Hash of the newest entry.';

CREATE TABLE request_envelopes (
    request_id uuid  NOT NULL,
    envelope   bytea NOT NULL,
    resume     bytea,
    CONSTRAINT request_envelopes_pkey PRIMARY KEY (request_id),
    CONSTRAINT request_envelopes_within_256_kib CHECK (octet_length(envelope) <= 262144)
);
COMMENT ON TABLE request_envelopes IS 'What the agent sent. Insert-only and apart from hitl_requests, so that a decision does not write it again.';
COMMENT ON COLUMN request_envelopes.request_id IS 'The request.';
COMMENT ON COLUMN request_envelopes.envelope IS 'The exact bytes received.';
COMMENT ON COLUMN request_envelopes.resume IS 'The bytes of the member resume, so that a poll need not read the whole envelope.';

CREATE TABLE request_dedupe (
    agent_id           text        NOT NULL,
    client_request_key text        NOT NULL,
    fingerprint        bytea       NOT NULL,
    request_id         uuid        NOT NULL,
    expires_at         timestamptz NOT NULL,
    CONSTRAINT request_dedupe_pkey PRIMARY KEY (agent_id, client_request_key)
);
CREATE INDEX request_dedupe_expiry ON request_dedupe (expires_at);
COMMENT ON TABLE request_dedupe IS 'Which request a client_request_key stands for, for 7 days.';
COMMENT ON COLUMN request_dedupe.agent_id IS 'Whose key.';
COMMENT ON COLUMN request_dedupe.client_request_key IS 'The agent''s own key.';
COMMENT ON COLUMN request_dedupe.fingerprint IS 'SHA-256 of the envelope as parsed JSON: member order ignored, numbers by their literal.';
COMMENT ON COLUMN request_dedupe.request_id IS 'The request made for it.';
COMMENT ON COLUMN request_dedupe.expires_at IS 'From this moment on the key is free, whether or not the row is still here.';

-- ---------------------------------------------------------------- decisions and the chain
CREATE TABLE hitl_decisions (
    request_id      uuid        NOT NULL,
    outcome         text        NOT NULL,
    cause           text        NOT NULL,
    decided_by_kind text        NOT NULL,
    decided_by_id   text        NOT NULL,
    decided_by_name text,
    reason          text,
    decided_at      timestamptz NOT NULL,
    chain_seq       integer     NOT NULL,
    CONSTRAINT hitl_decisions_pkey PRIMARY KEY (request_id),
    CONSTRAINT hitl_decisions_outcome_known CHECK (outcome IN ('approved', 'rejected', 'cancelled')),
    CONSTRAINT hitl_decisions_cause_known CHECK (cause IN ('operator', 'timeout', 'admin', 'agent')),
    CONSTRAINT hitl_decisions_decided_by_known CHECK (decided_by_kind IN ('operator', 'admin', 'agent', 'system')),
    CONSTRAINT hitl_decisions_timeout_is_no_person CHECK ((cause = 'timeout') = (decided_by_kind = 'system')),
    CONSTRAINT hitl_decisions_operator_rejects_with_reason CHECK (
        NOT (outcome = 'rejected' AND cause = 'operator' AND reason IS NULL)
    )
);
COMMENT ON TABLE hitl_decisions IS 'The one final outcome of a request. The primary key is the promise; nothing here is ever changed.';
COMMENT ON COLUMN hitl_decisions.request_id IS 'The request.';
COMMENT ON COLUMN hitl_decisions.outcome IS 'approved, rejected or cancelled.';
COMMENT ON COLUMN hitl_decisions.cause IS 'operator, timeout, admin or agent.';
COMMENT ON COLUMN hitl_decisions.decided_by_kind IS 'operator, admin, agent or system.';
COMMENT ON COLUMN hitl_decisions.decided_by_id IS 'The token''s sub, or timeout-sweep.';
COMMENT ON COLUMN hitl_decisions.decided_by_name IS 'The person''s name as the token gave it.';
COMMENT ON COLUMN hitl_decisions.reason IS 'Why; required where an operator rejects.';
COMMENT ON COLUMN hitl_decisions.decided_at IS 'Time of the decided entry.';
COMMENT ON COLUMN hitl_decisions.chain_seq IS 'Position of the decided entry.';

CREATE TABLE approval_chain (
    request_id uuid        NOT NULL,
    seq        integer     NOT NULL,
    kind       text        NOT NULL,
    at         timestamptz NOT NULL,
    entry      bytea       NOT NULL,
    prev_hash  bytea       NOT NULL,
    hash       bytea       NOT NULL,
    CONSTRAINT approval_chain_pkey PRIMARY KEY (request_id, seq),
    CONSTRAINT approval_chain_starts_at_one CHECK (seq >= 1),
    CONSTRAINT approval_chain_kind_known CHECK (kind IN (
        'submitted', 'escalated', 'extended', 'reprioritised', 'decided', 'acknowledged', 'dead_lettered', 'replayed'
    )),
    CONSTRAINT approval_chain_hashes_its_entry CHECK (hash = sha256(prev_hash || entry))
);
COMMENT ON TABLE approval_chain IS 'Everything that happened to a request: append-only, hash-chained.';
COMMENT ON COLUMN approval_chain.request_id IS 'The request.';
COMMENT ON COLUMN approval_chain.seq IS '1 for submitted, then without gaps.';
COMMENT ON COLUMN approval_chain.kind IS 'What happened; also in the entry.';
COMMENT ON COLUMN approval_chain.at IS 'When; also in the entry.';
COMMENT ON COLUMN approval_chain.entry IS 'The exact bytes that are hashed: a JSON object.';
COMMENT ON COLUMN approval_chain.prev_hash IS 'Hash of the entry before, or of relaytrace-chain-v1:<request_id>.';
COMMENT ON COLUMN approval_chain.hash IS 'SHA-256 of prev_hash followed by entry.';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: it is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER hitl_decisions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON hitl_decisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER approval_chain_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON approval_chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- ALWAYS: also where session_replication_role is set to replica.
ALTER TABLE hitl_decisions ENABLE ALWAYS TRIGGER hitl_decisions_append_only;
ALTER TABLE approval_chain ENABLE ALWAYS TRIGGER approval_chain_append_only;

-- ---------------------------------------------------------------- deliveries
CREATE TABLE deliveries (
    request_id       uuid        NOT NULL,
    agent_id         text        NOT NULL,
    state            text        NOT NULL DEFAULT 'ready',
    attempt          integer     NOT NULL DEFAULT 0,
    visible_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    delivery_id      uuid,
    lease_expires_at timestamptz,
    result           text,
    error_code       text,
    error_message    text,
    replayed         boolean     NOT NULL DEFAULT false,
    CONSTRAINT deliveries_pkey PRIMARY KEY (request_id),
    CONSTRAINT deliveries_state_known CHECK (state IN ('ready', 'leased', 'acknowledged', 'dead_lettered')),
    CONSTRAINT deliveries_result_known CHECK (result IN ('accepted', 'retry', 'failed')),
    CONSTRAINT deliveries_lease_is_whole CHECK (
        state <> 'leased' OR (delivery_id IS NOT NULL AND lease_expires_at IS NOT NULL AND attempt > 0)
    ),
    CONSTRAINT deliveries_acknowledged_means_accepted CHECK (state <> 'acknowledged' OR result = 'accepted')
) WITH (fillfactor = 80);
CREATE INDEX deliveries_due ON deliveries (agent_id, visible_at) WHERE state IN ('ready', 'leased');
CREATE INDEX deliveries_expiry ON deliveries (expires_at) WHERE state IN ('ready', 'leased');
COMMENT ON TABLE deliveries IS 'A decision on its way to its agent: ready, leased by a poll, then acknowledged or dead-lettered.';
COMMENT ON COLUMN deliveries.request_id IS 'The decided request.';
COMMENT ON COLUMN deliveries.agent_id IS 'Who is to get it.';
COMMENT ON COLUMN deliveries.state IS 'ready, leased, acknowledged or dead_lettered.';
COMMENT ON COLUMN deliveries.attempt IS 'How often it was handed to a poll.';
COMMENT ON COLUMN deliveries.visible_at IS 'From when on a poll may take it; for a lease: its end plus the backoff.';
COMMENT ON COLUMN deliveries.expires_at IS 'Dead-lettered from here on: 24 h after the decision, or the end of the last attempt''s lease.';
COMMENT ON COLUMN deliveries.delivery_id IS 'Names the latest attempt; an acknowledgement must carry it.';
COMMENT ON COLUMN deliveries.lease_expires_at IS 'End of the latest lease.';
COMMENT ON COLUMN deliveries.result IS 'What the agent said of the latest attempt: accepted, retry or failed; null: nothing yet.';
COMMENT ON COLUMN deliveries.error_code IS 'From the agent''s retry or failed.';
COMMENT ON COLUMN deliveries.error_message IS 'From the agent''s retry or failed.';
COMMENT ON COLUMN deliveries.replayed IS 'An administrator sent it out again.';

CREATE TABLE agent_polls (
    agent_id       text        NOT NULL,
    last_polled_at timestamptz NOT NULL,
    CONSTRAINT agent_polls_pkey PRIMARY KEY (agent_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE agent_polls IS 'Is the agent still waiting? Written at most every 5 seconds for each agent.';
COMMENT ON COLUMN agent_polls.agent_id IS 'The agent.';
COMMENT ON COLUMN agent_polls.last_polled_at IS 'Its latest poll, to about 5 seconds.';

-- ---------------------------------------------------------------- events, dead letters, replays
CREATE TABLE outbox (
    request_id    uuid        NOT NULL,
    seq           integer     NOT NULL,
    kind          text        NOT NULL,
    agent_id      text        NOT NULL,
    payload       bytea       NOT NULL,
    traceparent   text,
    created_at    timestamptz NOT NULL,
    claimed_until timestamptz NOT NULL,
    CONSTRAINT outbox_pkey PRIMARY KEY (request_id, seq)
);
CREATE INDEX outbox_left_over ON outbox (claimed_until);
COMMENT ON TABLE outbox IS 'Events that are not known to be on the stream yet. Written with what they tell, deleted after the stream''s acknowledgement.';
COMMENT ON COLUMN outbox.request_id IS 'The request.';
COMMENT ON COLUMN outbox.seq IS 'Its chain entry; request_id/seq is the event''s id.';
COMMENT ON COLUMN outbox.kind IS 'requested, escalated, decided, acknowledged, dead_lettered or replayed.';
COMMENT ON COLUMN outbox.agent_id IS 'Last token of the subject.';
COMMENT ON COLUMN outbox.payload IS 'CloudEvents 1.0 structured JSON, the exact bytes.';
COMMENT ON COLUMN outbox.traceparent IS 'W3C trace context of the request that caused it.';
COMMENT ON COLUMN outbox.created_at IS 'When it was written.';
COMMENT ON COLUMN outbox.claimed_until IS 'Whoever wrote or claimed it publishes it until then; afterwards a sweep may claim it.';

CREATE TABLE dead_letters (
    dead_letter_id uuid        NOT NULL,
    kind           text        NOT NULL,
    request_id     uuid,
    agent_id       text,
    cause          text        NOT NULL,
    attempts       integer     NOT NULL,
    error_code     text,
    error_message  text,
    first_at       timestamptz NOT NULL,
    last_at        timestamptz NOT NULL,
    resolved_at    timestamptz,
    resolution     text,
    resolved_by    text,
    resolve_reason text,
    CONSTRAINT dead_letters_pkey PRIMARY KEY (dead_letter_id),
    CONSTRAINT dead_letters_kind_known CHECK (kind IN ('delivery', 'event', 'sweep')),
    CONSTRAINT dead_letters_cause_known CHECK (cause IN ('agent_failed', 'attempts_exhausted', 'age_exceeded', 'unpublishable', 'sweep_failed')),
    CONSTRAINT dead_letters_resolution_known CHECK (resolution IN ('acknowledged', 'retried', 'discarded')),
    CONSTRAINT dead_letters_resolved_whole CHECK ((resolved_at IS NULL) = (resolution IS NULL))
);
CREATE UNIQUE INDEX dead_letters_one_open_per_delivery ON dead_letters (request_id)
    WHERE kind = 'delivery' AND resolved_at IS NULL;
COMMENT ON TABLE dead_letters IS 'What could not be done and waits for an administrator.';
COMMENT ON COLUMN dead_letters.dead_letter_id IS 'UUIDv7-like: newest last.';
COMMENT ON COLUMN dead_letters.kind IS 'delivery, event or sweep.';
COMMENT ON COLUMN dead_letters.request_id IS 'The request it is about.';
COMMENT ON COLUMN dead_letters.agent_id IS 'Its agent.';
COMMENT ON COLUMN dead_letters.cause IS 'Why it was set aside.';
COMMENT ON COLUMN dead_letters.attempts IS 'How often it was tried.';
COMMENT ON COLUMN dead_letters.error_code IS 'Last error: its code.';
COMMENT ON COLUMN dead_letters.error_message IS 'Last error: its message.';
COMMENT ON COLUMN dead_letters.first_at IS 'When it was first due.';
COMMENT ON COLUMN dead_letters.last_at IS 'When it was set aside.';
COMMENT ON COLUMN dead_letters.resolved_at IS 'When it was put right.';
COMMENT ON COLUMN dead_letters.resolution IS 'acknowledged, retried or discarded.';
COMMENT ON COLUMN dead_letters.resolved_by IS 'Who put it right.';
COMMENT ON COLUMN dead_letters.resolve_reason IS 'The reason given.';

CREATE TABLE replays (
    replay_id    uuid        NOT NULL,
    replay_key   text        NOT NULL,
    target       text        NOT NULL,
    scope        jsonb       NOT NULL,
    reason       text        NOT NULL,
    requested_by text        NOT NULL,
    dry_run      boolean     NOT NULL,
    state        text        NOT NULL DEFAULT 'running',
    matched      bigint      NOT NULL DEFAULT 0,
    done         bigint      NOT NULL DEFAULT 0,
    position     uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CONSTRAINT replays_pkey PRIMARY KEY (replay_id),
    CONSTRAINT replays_replay_key_key UNIQUE (replay_key),
    CONSTRAINT replays_target_known CHECK (target IN ('deliveries', 'events')),
    CONSTRAINT replays_state_known CHECK (state IN ('running', 'finished')),
    CONSTRAINT replays_finished_whole CHECK ((state = 'finished') = (finished_at IS NOT NULL))
);
COMMENT ON TABLE replays IS 'Orders to send deliveries or events out again, and how far each has come.';
COMMENT ON COLUMN replays.replay_id IS 'UUIDv7.';
COMMENT ON COLUMN replays.replay_key IS 'The administrator''s own key: the same key is the same replay.';
COMMENT ON COLUMN replays.target IS 'deliveries or events.';
COMMENT ON COLUMN replays.scope IS 'Which requests, as given.';
COMMENT ON COLUMN replays.reason IS 'Why.';
COMMENT ON COLUMN replays.requested_by IS 'The administrator.';
COMMENT ON COLUMN replays.dry_run IS 'Only count.';
COMMENT ON COLUMN replays.state IS 'running or finished.';
COMMENT ON COLUMN replays.matched IS 'Items in scope.';
COMMENT ON COLUMN replays.done IS 'Items sent out again so far.';
COMMENT ON COLUMN replays.position IS 'Last request done; the next batch starts after it.';
COMMENT ON COLUMN replays.created_at IS 'When it was ordered.';
COMMENT ON COLUMN replays.finished_at IS 'When it was done.';

-- ---------------------------------------------------------------- the bytes of entries and events
-- Plain SQL functions, so that the planner inlines them into the one statement that writes. It does so only where a
-- function is no stricter than what it calls (convert_to and to_json are STABLE), and uses an argument that costs
-- something once.

CREATE FUNCTION rfc3339(at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
COMMENT ON FUNCTION rfc3339 IS 'RFC 3339, UTC, microseconds.';

CREATE FUNCTION digest_text(digest bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'sha256:' || encode(digest, 'hex');
COMMENT ON FUNCTION digest_text IS 'A SHA-256 digest as it is written in entries and events.';

CREATE FUNCTION json_text(value text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN COALESCE(to_json(value)::text, 'null');
COMMENT ON FUNCTION json_text IS 'A text as a JSON string, or null.';

CREATE FUNCTION chain_genesis(request_id uuid) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to('relaytrace-chain-v1:' || request_id, 'UTF8'));
COMMENT ON FUNCTION chain_genesis IS 'The prev_hash of a chain''s first entry.';

CREATE FUNCTION chain_actor(kind text, id text, name text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN '{"kind":"' || kind || '","id":' || json_text(id)
        || CASE WHEN name IS NULL THEN '' ELSE ',"name":' || json_text(name) END || '}';
COMMENT ON FUNCTION chain_actor IS 'Who did it, as a JSON object.';

CREATE FUNCTION chain_entry(request_id uuid, seq integer, kind text, at timestamptz, actor text, details text)
    RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN convert_to(
        '{"request_id":"' || request_id || '","seq":' || seq || ',"kind":"' || kind
        || '","at":"' || rfc3339(at) || '","actor":' || actor
        || COALESCE(',' || NULLIF(details, ''), '') || '}', 'UTF8');
COMMENT ON FUNCTION chain_entry IS 'The bytes of one chain entry; details are further JSON members, or nothing.';

CREATE FUNCTION handoff_event(
    kind text, request_id uuid, seq integer, at timestamptz, agent_id text, client_request_key text,
    priority smallint, action_digest bytea, head bytea, outcome text, cause text
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
        || '}}', 'UTF8');
COMMENT ON FUNCTION handoff_event IS 'The bytes of one CloudEvent: a function of stored values only, so that a replay repeats them.';

-- ---------------------------------------------------------------- grants
-- relaytrace_app owns nothing. What is final it can only add to and read.
GRANT USAGE ON SCHEMA public TO relaytrace_app;
GRANT SELECT, INSERT, UPDATE ON agents, agent_keys, hitl_requests, deliveries, agent_polls, dead_letters, replays TO relaytrace_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON request_dedupe, outbox, timeout_policies TO relaytrace_app;
GRANT SELECT, INSERT ON request_envelopes, hitl_decisions, approval_chain TO relaytrace_app;
