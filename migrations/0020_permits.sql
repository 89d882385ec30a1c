-- What policies say of permits, and what freezes end with. Additive.
SET LOCAL lock_timeout = '2s';

ALTER TABLE timeout_policies
    ADD COLUMN permit_seconds integer,
    ADD COLUMN consume_required boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT timeout_policies_permit_bounded CHECK (permit_seconds BETWEEN 10 AND 86400) NOT VALID,
    ADD CONSTRAINT timeout_policies_required_is_not_automatic
        CHECK (NOT (consume_required AND on_timeout = 'auto_approve')) NOT VALID;
COMMENT ON COLUMN timeout_policies.permit_seconds IS 'How long an approval may be used at the most; null: it does not say.';
COMMENT ON COLUMN timeout_policies.consume_required IS 'Whether a delivery can be accepted only after the permit was consumed.';

-- The same as applying_policy, and what the policy says of permits. Binaries of the release before use the other.
CREATE FUNCTION applying_terms(asking_agent_id text, asked_action_type text, asked_priority smallint)
    RETURNS TABLE (
        policy_id uuid, respond_within_seconds integer, escalate_after_percent smallint, on_timeout text,
        lowest_priority smallint, permit_seconds integer, consume_required boolean
    )
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT p.policy_id, p.respond_within_seconds, p.escalate_after_percent, p.on_timeout, (
            SELECT l.lowest_priority FROM timeout_policies l
            WHERE l.lowest_priority IS NOT NULL
                AND (l.agent_id IS NULL OR l.agent_id = asking_agent_id)
                AND (l.action_type IS NULL OR l.action_type = asked_action_type)
            ORDER BY l.agent_id IS NULL, l.action_type IS NULL, l.lowest_priority LIMIT 1
        ), p.permit_seconds, p.consume_required
    FROM timeout_policies p
    WHERE p.priority = asked_priority
        AND (p.agent_id IS NULL OR p.agent_id = asking_agent_id)
        AND (p.action_type IS NULL OR p.action_type = asked_action_type)
    ORDER BY p.agent_id IS NULL, p.action_type IS NULL LIMIT 1;
END;
COMMENT ON FUNCTION applying_terms IS 'The most specific policy: agent and action type, agent, action type, neither; with the lowest priority that may be asked with.';

-- Nothing has written a freeze yet: the table is empty.
ALTER TABLE freezes
    ADD COLUMN ends_at timestamptz NOT NULL
        GENERATED ALWAYS AS (COALESCE(LEAST(ended_at, until), 'infinity'::timestamptz)) STORED;
COMMENT ON COLUMN freezes.ends_at IS 'When it ended or ends; infinity: not known yet. A stop revokes what was decided before.';

ALTER TABLE sweep_failures
    DROP CONSTRAINT sweep_failures_part_known,
    ADD CONSTRAINT sweep_failures_part_known
        CHECK (part IN ('raise', 'expire', 'escalate', 'dead_letter', 'stop', 'outcome')) NOT VALID;
