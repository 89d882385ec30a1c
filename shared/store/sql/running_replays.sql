/* relaytrace: running_replays */
-- Replays that are not finished, oldest first. What has failed waits its time.
--
-- $1 now (null: the database's clock), $2 at most so many
SELECT replay_id FROM replays
WHERE state = 'running' AND (retry_at IS NULL OR retry_at <= at_or_now($1))
ORDER BY created_at LIMIT $2
