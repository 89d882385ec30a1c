/* relaytrace: order_replay */
-- Orders a replay, unless its key stands for one.
--
-- $1 now (null: the database's clock), $2 replay_id, $3 replay_key, $4 target, $5 scope (JSON), $6 reason,
-- $7 and $8 id and name of the administrator, $9 whether it only counts, $10 agent_id of the scope (null: any),
-- $11 tenant_id, $12 kind of the administrator
WITH ordered AS (
    INSERT INTO replays (replay_id, replay_key, target, scope, reason, requested_by, requested_by_name, dry_run,
        created_at, tenant_id)
    SELECT $2::uuid, key_in_tenant($11::text, $3::text), $4::text, $5::text::jsonb, $6::text, $7::text, $8::text, $9::boolean,
        at_or_now($1), $11
    WHERE $10::text IS NULL OR EXISTS (SELECT FROM agents a WHERE a.agent_id = $10 AND a.tenant_id = $11)
    ON CONFLICT (replay_key) DO NOTHING
    RETURNING replay_id, replay_key, target, scope, reason, dry_run, created_at
)
INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
SELECT $11, created_at, $12::text, $7, $8, 'replay.ordered', replay_id::text,
    jsonb_build_object('replay_key', $3, 'target', target, 'scope', scope, 'reason', reason, 'dry_run', dry_run)
FROM ordered
