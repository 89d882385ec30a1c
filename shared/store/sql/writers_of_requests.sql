/* relaytrace: writers_of_requests */
-- Transactions that may write requests, by their locks: every statement that submits, approves or uses an approval takes the
-- lock of the table before it takes its snapshot, and keeps it to its end. What only reads has none. Locks, unlike sessions,
-- are shown to every role.
--
-- $1 only these (null: all)
SELECT DISTINCT l.virtualtransaction AS "transaction!"
FROM pg_locks l
WHERE l.locktype = 'relation' AND l.relation = 'hitl_requests'::regclass
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    AND l.mode = 'RowExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
    AND ($1::text[] IS NULL OR l.virtualtransaction = ANY ($1))
