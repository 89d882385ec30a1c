/* relaytrace: caps_under_way */
-- Transactions under way whose statement writes caps: every submission takes this lock before it looks at anything.
--
-- $1 only these (null: all)
SELECT virtualtransaction AS "virtual_transaction!" FROM pg_locks
WHERE relation = 'agent_caps'::regclass AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
    AND ($1::text[] IS NULL OR virtualtransaction = ANY ($1))
