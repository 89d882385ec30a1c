-- Channels of people, agents' push, and what is to be told by them. Additive: the binaries before it keep working.
SET LOCAL lock_timeout = '2s';

-- ---------------------------------------------------------------- whose
ALTER TABLE agents
    ADD COLUMN default_priority smallint,
    ADD CONSTRAINT agents_default_priority_known CHECK (default_priority BETWEEN 1 AND 3) NOT VALID;
COMMENT ON COLUMN agents.default_priority IS 'Priority of what it asks by a protocol without priorities; null: P2.';

CREATE TABLE listeners (
    listener_id     uuid        NOT NULL DEFAULT gen_random_uuid(),
    tenant_id       text        NOT NULL,
    channel_id      text,
    agent_id        text,
    kind            text        NOT NULL,
    config          jsonb       NOT NULL,
    sealed          bytea,
    event_kinds     text[]      NOT NULL,
    notices         text[]      NOT NULL DEFAULT '{}',
    matching        jsonb,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    updated_by      text        NOT NULL,
    removed_at      timestamptz,
    CONSTRAINT listeners_pkey PRIMARY KEY (listener_id),
    CONSTRAINT listeners_tenant_exists FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT listeners_channel_once UNIQUE (tenant_id, channel_id),
    CONSTRAINT listeners_agent_once UNIQUE (agent_id),
    CONSTRAINT listeners_channel_or_agent CHECK ((channel_id IS NULL) <> (agent_id IS NULL)),
    CONSTRAINT listeners_kind_known CHECK (kind IN ('webhook', 'slack', 'email', 'push')),
    CONSTRAINT listeners_push_is_an_agents CHECK ((kind = 'push') = (agent_id IS NOT NULL))
);
COMMENT ON TABLE listeners IS 'Channels of people, and agents that are pushed to. Few rows: what deletes events from the outbox looks here.';
COMMENT ON COLUMN listeners.listener_id IS 'Names it in the queue.';
COMMENT ON COLUMN listeners.tenant_id IS 'Whose: nothing of another tenant is told to it.';
COMMENT ON COLUMN listeners.channel_id IS 'The administrator''s own name of a channel; null: an agent''s push.';
COMMENT ON COLUMN listeners.agent_id IS 'The agent that is pushed to; null: a channel.';
COMMENT ON COLUMN listeners.kind IS 'webhook, slack, email or push.';
COMMENT ON COLUMN listeners.config IS 'What administrators see of it: url, or to.';
COMMENT ON COLUMN listeners.sealed IS 'Its secret, encrypted with CHANNEL_KEY for this place alone; null: it has none.';
COMMENT ON COLUMN listeners.event_kinds IS 'Kinds of events that it is told after; none where it is off.';
COMMENT ON COLUMN listeners.notices IS 'What a channel tells of: requested, escalated, decided, timed_out, outcome_unknown, dead_lettered.';
COMMENT ON COLUMN listeners.matching IS 'Which requests a channel tells of; null: all.';
COMMENT ON COLUMN listeners.created_at IS 'When it was made.';
COMMENT ON COLUMN listeners.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN listeners.updated_by IS 'The administrator who did.';
COMMENT ON COLUMN listeners.removed_at IS 'When it was removed; its row stays, so that removing it again is no error.';

-- ---------------------------------------------------------------- the queue
ALTER TABLE outbox ADD COLUMN told boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN outbox.told IS 'It is in events_to_tell already, or is to be told to nobody again.';

CREATE TABLE events_to_tell (
    request_id uuid        NOT NULL,
    seq        integer     NOT NULL,
    kind       text        NOT NULL,
    agent_id   text        NOT NULL,
    queued_at  timestamptz NOT NULL,
    CONSTRAINT events_to_tell_pkey PRIMARY KEY (request_id, seq)
);
CREATE INDEX events_to_tell_oldest ON events_to_tell (queued_at);
COMMENT ON TABLE events_to_tell IS 'Events that somebody may want to hear of, put here by the statement that deletes them from the outbox: NATS is not asked, and may lose what it has acknowledged.';
COMMENT ON COLUMN events_to_tell.request_id IS 'The request.';
COMMENT ON COLUMN events_to_tell.seq IS 'Its chain entry.';
COMMENT ON COLUMN events_to_tell.kind IS 'What happened, as in the outbox.';
COMMENT ON COLUMN events_to_tell.agent_id IS 'Who asks.';
COMMENT ON COLUMN events_to_tell.queued_at IS 'When.';

CREATE TABLE notifications (
    listener_id uuid        NOT NULL,
    request_id  uuid        NOT NULL,
    seq         integer     NOT NULL,
    notice      text        NOT NULL,
    attempts    integer     NOT NULL DEFAULT 0,
    queued_at   timestamptz NOT NULL,
    due_at      timestamptz NOT NULL,
    CONSTRAINT notifications_pkey PRIMARY KEY (listener_id, request_id, seq)
) WITH (fillfactor = 80);
CREATE INDEX notifications_due ON notifications (listener_id, due_at);
COMMENT ON TABLE notifications IS 'What is to be told to one listener: deleted when it was, or made a dead letter.';
COMMENT ON COLUMN notifications.listener_id IS 'To whom.';
COMMENT ON COLUMN notifications.request_id IS 'The request.';
COMMENT ON COLUMN notifications.seq IS 'The chain entry that is told.';
COMMENT ON COLUMN notifications.notice IS 'Why, as a channel''s notices; resolved: to an agent.';
COMMENT ON COLUMN notifications.attempts IS 'How often it was tried.';
COMMENT ON COLUMN notifications.queued_at IS 'When it was first due.';
COMMENT ON COLUMN notifications.due_at IS 'From when on it may be tried; while a try is under way, the end of its lease.';

-- ---------------------------------------------------------------- dead letters
ALTER TABLE dead_letters
    ADD COLUMN listener_id uuid,
    ADD COLUMN channel_id text,
    ADD COLUMN notice text,
    DROP CONSTRAINT dead_letters_kind_known,
    ADD CONSTRAINT dead_letters_kind_known
        CHECK (kind IN ('delivery', 'event', 'sweep', 'notification')) NOT VALID,
    ADD CONSTRAINT dead_letters_notification_is_whole CHECK (
        kind <> 'notification' OR (listener_id IS NOT NULL AND notice IS NOT NULL AND event_seq IS NOT NULL)
    ) NOT VALID;
COMMENT ON COLUMN dead_letters.kind IS 'delivery, event, sweep or notification.';
COMMENT ON COLUMN dead_letters.listener_id IS 'Of a notification: to whom.';
COMMENT ON COLUMN dead_letters.channel_id IS 'Of a notification: the channel; null: the agent''s push.';
COMMENT ON COLUMN dead_letters.notice IS 'Of a notification: why it was to be told.';

-- ---------------------------------------------------------------- grants
GRANT SELECT, INSERT, UPDATE ON listeners TO relaytrace_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON events_to_tell, notifications TO relaytrace_app;
