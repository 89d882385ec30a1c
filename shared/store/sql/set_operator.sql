/* relaytrace: set_operator */
-- Blocks an operator or lets them in again. What was delegated by and to them, what they had claimed, and what their browsers
-- are told ends. No row: nobody of this id was seen.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 operator_id, $4 status, $5 to $7 kind, id and name of who does it
WITH before AS (
    -- Locked, so that the log says what it was.
    SELECT tenant_id, operator_id, status FROM operators WHERE tenant_id = $2 AND operator_id = $3 FOR NO KEY UPDATE
), changed AS (
    UPDATE operators o
    SET status = $4,
        blocked_at = CASE WHEN $4 = 'active' THEN NULL ELSE COALESCE(o.blocked_at, at_or_now($1)) END,
        blocked_by = CASE WHEN $4 = 'active' THEN NULL ELSE COALESCE(o.blocked_by, $6::text) END
    FROM before b WHERE o.tenant_id = b.tenant_id AND o.operator_id = b.operator_id
    RETURNING o.*
), undelegated AS (
    UPDATE delegations d
    SET ended_at = GREATEST(d.created_at, at_or_now($1)), ended_by_kind = 'system', ended_by = 'offboarding'
    FROM changed c
    WHERE $4 = 'blocked' AND d.tenant_id = c.tenant_id AND c.operator_id IN (d.delegator_id, d.delegate_id)
        AND d.ended_at IS NULL AND d.until > at_or_now($1)
    RETURNING d.delegation_id
), unclaimed AS (
    DELETE FROM claims l USING changed c
    WHERE $4 = 'blocked' AND l.tenant_id = c.tenant_id AND l.operator_id = c.operator_id
    RETURNING l.request_id
), unsubscribed AS (
    UPDATE listeners l
    SET removed_at = at_or_now($1), config = '{}', event_kinds = '{}', updated_at = at_or_now($1), updated_by = $6::text
    FROM changed c
    WHERE $4 = 'blocked' AND l.tenant_id = c.tenant_id AND l.operator_id = c.operator_id AND l.removed_at IS NULL
    RETURNING l.listener_id
), ended AS (
    SELECT (SELECT count(*) FROM undelegated) AS delegations, (SELECT count(*) FROM unclaimed) AS claims,
        (SELECT count(*) FROM unsubscribed) AS browsers
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT c.tenant_id, at_or_now($1), $5::text, $6, $7::text,
        CASE WHEN $4 = 'active' THEN 'operator.unblocked' ELSE 'operator.blocked' END, c.operator_id,
        jsonb_build_object('was', b.status, 'became', c.status)
        || CASE WHEN $4 = 'active' THEN '{}'
            ELSE jsonb_build_object('delegations_ended', e.delegations, 'claims_ended', e.claims,
                'push_subscriptions_ended', e.browsers) END
    FROM before b JOIN changed c USING (tenant_id, operator_id) CROSS JOIN ended e
    WHERE b.status <> c.status OR e.delegations > 0 OR e.claims > 0 OR e.browsers > 0
)
SELECT operator_id AS "operator_id!", name, email, groups AS "groups!", status AS "status!",
    first_seen_at AS "first_seen_at!", seen_at AS "seen_at!", blocked_at, blocked_by
FROM changed
