/* relaytrace: find_replay */
-- A replay by its id or key.
--
-- $1 replay_id, $2 replay_key (one of both is null), $3 scope to compare (JSON), $4 tenant_id (null: any)
SELECT replay_id, substr(replay_key, length(key_in_tenant(tenant_id, '')) + 1) AS "replay_key!: ReplayKey", target AS "target: ReplayTarget",
    scope::text AS "scope!", scope = $3::text::jsonb AS "same_scope!", reason, requested_by, dry_run,
    state AS "state: ReplayState", matched, done, created_at, counted_at, finished_at,
    error_message
FROM replays WHERE (replay_id = $1 OR replay_key = key_in_tenant($4::text, $2)) AND tenant_id = COALESCE($4, tenant_id)
