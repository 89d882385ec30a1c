/* relaytrace: declare_restore */
-- Begins another epoch, as the owner, after a restore to an older point, and ends the approvals that were usable then:
-- nobody knows whether they were used meanwhile. Nothing where nothing has happened since the latest one began.
--
-- $1 its number (null: the next), $2 reason
WITH newest AS MATERIALIZED (
    SELECT max(at) AS at, clock_timestamp() AS now FROM approval_chain
), latest AS MATERIALIZED (
    SELECT epoch, begins_at FROM epochs ORDER BY epoch DESC LIMIT 1
), begun AS (
    INSERT INTO epochs (epoch, begins_at, declared_at, reason)
    SELECT COALESCE($1, COALESCE(l.epoch, 1) + 1), n.at + interval '1 microsecond', n.now, $2
    FROM newest n LEFT JOIN latest l ON true
    WHERE n.at < n.now AND (l.begins_at IS NULL OR l.begins_at <= n.at)
    RETURNING epoch, declared_at
), ended AS (
    UPDATE hitl_requests r SET permit_expires_at = b.declared_at
    FROM begun b
    WHERE r.status = 'decided' AND r.execution IS NULL AND r.permit_expires_at > b.declared_at
    RETURNING r.request_id
), logged AS (
    INSERT INTO admin_log (at, actor_kind, actor_id, action, subject, details)
    SELECT declared_at, 'system', 'declare-restore', 'restore.declared', epoch::text,
        jsonb_build_object('reason', $2::text, 'ended_permits', (SELECT count(*) FROM ended))
    FROM begun
)
SELECT n.at AS newest, n.at >= n.now AS "is_clock_behind!", (SELECT epoch FROM begun) AS begun,
    (SELECT epoch FROM latest) AS latest, (SELECT count(*) FROM ended) AS "ended_permits!",
    (SELECT count(*) FROM hitl_requests WHERE status = 'pending') AS "pending!"
FROM newest n
