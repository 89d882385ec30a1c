-- A replay that fails for good says so, and holds up no other.

ALTER TABLE replays
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    ADD COLUMN retry_at timestamptz,
    ADD COLUMN error_message text,
    DROP CONSTRAINT replays_state_known,
    ADD CONSTRAINT replays_state_known CHECK (state IN ('running', 'finished', 'failed'));
COMMENT ON COLUMN replays.state IS 'running, then finished, or failed after too many failures.';
COMMENT ON COLUMN replays.failures IS 'How often a batch failed since one succeeded.';
COMMENT ON COLUMN replays.retry_at IS 'From when on a sweep tries it again; null: now.';
COMMENT ON COLUMN replays.error_message IS 'Last error: the constraint or condition.';
