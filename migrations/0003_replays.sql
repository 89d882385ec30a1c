-- Replays go in batches, first counting, then working, and are continued by whoever comes by.

ALTER TABLE replays
    ADD COLUMN requested_by_name text,
    ADD COLUMN counted_at timestamptz,
    ADD CONSTRAINT replays_finished_are_counted CHECK (state <> 'finished' OR counted_at IS NOT NULL);
CREATE INDEX replays_running ON replays (created_at) WHERE state = 'running';
COMMENT ON COLUMN replays.scope IS 'Which requests: {request_ids}, {agent_id?, from, to} or {dead_letters: true}.';
COMMENT ON COLUMN replays.requested_by_name IS 'The administrator''s name as the token gave it.';
COMMENT ON COLUMN replays.matched IS 'Items in scope: deliveries or events; final once counted_at is set.';
COMMENT ON COLUMN replays.position IS 'Last request looked at; the next batch starts after it. Once for counting, then, from the start, for the work.';
COMMENT ON COLUMN replays.counted_at IS 'When all items were counted; null: the batches still count.';
