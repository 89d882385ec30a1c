-- A replay of a period goes through it in the order of time, by the indexes of 0009 and 0010: it costs what is in the
-- period. One that is under way while this is installed starts its pass again: consumers drop what they have by its id.
SET LOCAL lock_timeout = '2s';

ALTER TABLE replays ADD COLUMN position_at timestamptz;
COMMENT ON COLUMN replays.position_at IS 'Of a period: the moment up to which was looked; null: from its start. The next batch starts after it.';
COMMENT ON COLUMN replays.position IS 'Of named requests and dead letters: the last request looked at. Once for counting, then, from the start, for the work.';
