-- Timeout policies in full, and what becomes of work that fails again and again.

-- ---------------------------------------------------------------- timeout policies
ALTER TABLE timeout_policies
    ADD COLUMN lowest_priority smallint,
    ADD CONSTRAINT timeout_policies_lowest_priority_known CHECK (lowest_priority BETWEEN 1 AND 3);
COMMENT ON COLUMN timeout_policies.lowest_priority IS 'The least urgent priority that what this policy covers may be asked with, whatever the policy''s own priority; null: any. The most specific row that says one wins.';
COMMENT ON COLUMN hitl_requests.on_timeout IS 'What happens at respond_by, by the policy that applied at submission: auto_reject, auto_approve (only where the policy''s full time was given) or raise.';

-- A plain SQL function, so that the planner inlines it where it is joined.
CREATE FUNCTION applying_policy(asking_agent_id text, asked_action_type text, asked_priority smallint)
    RETURNS TABLE (
        policy_id uuid, respond_within_seconds integer, escalate_after_percent smallint, on_timeout text,
        lowest_priority smallint
    )
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT p.policy_id, p.respond_within_seconds, p.escalate_after_percent, p.on_timeout, (
            SELECT l.lowest_priority FROM timeout_policies l
            WHERE l.lowest_priority IS NOT NULL
                AND (l.agent_id IS NULL OR l.agent_id = asking_agent_id)
                AND (l.action_type IS NULL OR l.action_type = asked_action_type)
            ORDER BY l.agent_id IS NULL, l.action_type IS NULL, l.lowest_priority LIMIT 1
        )
    FROM timeout_policies p
    WHERE p.priority = asked_priority
        AND (p.agent_id IS NULL OR p.agent_id = asking_agent_id)
        AND (p.action_type IS NULL OR p.action_type = asked_action_type)
    ORDER BY p.agent_id IS NULL, p.action_type IS NULL LIMIT 1;
END;
COMMENT ON FUNCTION applying_policy IS 'The most specific policy: agent and action type, agent, action type, neither; with the lowest priority that may be asked with.';

CREATE FUNCTION may_be_raised(on_timeout text, priority smallint, requested_respond_by timestamptz, at timestamptz)
    RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN on_timeout = 'raise' AND priority > 1 AND (requested_respond_by IS NULL OR requested_respond_by > at);
COMMENT ON FUNCTION may_be_raised IS 'Whether a timeout at this moment raises the priority; otherwise it decides. No policy goes past the agent''s own deadline.';

-- ---------------------------------------------------------------- deliveries
ALTER TABLE deliveries
    ADD COLUMN replayed_seq integer,
    ADD COLUMN replayed_by text,
    ADD COLUMN replay_reason text;
COMMENT ON COLUMN deliveries.replayed_seq IS 'The chain entry of the latest replay.';
COMMENT ON COLUMN deliveries.replayed_by IS 'The administrator of the latest replay.';
COMMENT ON COLUMN deliveries.replay_reason IS 'The reason given for it; with the two above, what tells a repeated call from a new one.';

-- ---------------------------------------------------------------- dead letters
ALTER TABLE outbox ADD COLUMN refusals integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN outbox.refusals IS 'How often the stream was reached and refused it; then it becomes a dead letter.';

ALTER TABLE dead_letters
    ADD COLUMN event_seq integer,
    ADD COLUMN event_kind text,
    ADD COLUMN event_payload bytea,
    ADD COLUMN sweep_part text,
    ADD CONSTRAINT dead_letters_event_is_whole CHECK (
        kind <> 'event' OR (event_seq IS NOT NULL AND event_kind IS NOT NULL AND event_payload IS NOT NULL)
    ),
    ADD CONSTRAINT dead_letters_sweep_names_its_part CHECK (kind <> 'sweep' OR sweep_part IS NOT NULL);
CREATE INDEX dead_letters_newest ON dead_letters (last_at, dead_letter_id);
COMMENT ON COLUMN dead_letters.dead_letter_id IS 'Names it; says nothing of its time.';
COMMENT ON COLUMN dead_letters.event_seq IS 'Of an event: its chain entry.';
COMMENT ON COLUMN dead_letters.event_kind IS 'Of an event: what it tells.';
COMMENT ON COLUMN dead_letters.event_payload IS 'Of an event: its exact bytes, so that it can be tried again.';
COMMENT ON COLUMN dead_letters.sweep_part IS 'Of a sweep''s item: the part of the sweep that failed.';

CREATE TABLE sweep_failures (
    part          text        NOT NULL,
    request_id    uuid        NOT NULL,
    attempts      integer     NOT NULL,
    error_code    text,
    error_message text        NOT NULL,
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    retry_at      timestamptz NOT NULL,
    CONSTRAINT sweep_failures_pkey PRIMARY KEY (part, request_id),
    CONSTRAINT sweep_failures_part_known CHECK (part IN ('raise', 'expire', 'escalate', 'dead_letter'))
);
COMMENT ON TABLE sweep_failures IS 'Items that a sweep could not do: left out until retry_at, so that they hold up nothing behind them.';
COMMENT ON COLUMN sweep_failures.part IS 'The part of the sweep: raise, expire, escalate or dead_letter.';
COMMENT ON COLUMN sweep_failures.request_id IS 'The request that the item is about.';
COMMENT ON COLUMN sweep_failures.attempts IS 'How often it failed.';
COMMENT ON COLUMN sweep_failures.error_code IS 'Last error: its SQLSTATE.';
COMMENT ON COLUMN sweep_failures.error_message IS 'Last error: the constraint or condition.';
COMMENT ON COLUMN sweep_failures.first_at IS 'When it first failed.';
COMMENT ON COLUMN sweep_failures.last_at IS 'When it last failed.';
COMMENT ON COLUMN sweep_failures.retry_at IS 'From when on a sweep tries it again; infinity: it is a dead letter.';

-- ---------------------------------------------------------------- grants
GRANT SELECT, INSERT, UPDATE, DELETE ON sweep_failures TO relaytrace_app;
