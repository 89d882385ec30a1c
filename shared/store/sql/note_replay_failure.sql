/* relaytrace: note_replay_failure */
-- Notes that a batch of a replay failed; after too many in a row the replay has.
--
-- $1 now (null: the database's clock), $2 replay_id, $3 message, $4 failures in a row that end it,
-- $5 pause after a failure, in seconds
UPDATE replays
SET failures = failures + 1, error_message = $3,
    retry_at = at_or_now($1)
        + (failures + 1) * make_interval(secs => $5::double precision),
    state = CASE WHEN failures + 1 >= $4::integer THEN 'failed' ELSE state END
WHERE replay_id = $2 AND state = 'running'
