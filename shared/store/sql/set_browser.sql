/* relaytrace: set_browser */
-- Makes an operator's push subscription or changes it. The browser is its latest owner's alone: the same one under another
-- name or another operator ends. No row: the operator has as many as they may.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 operator_id, $4 subscription_id, $5 endpoint and keys (JSON),
-- $6 SHA-256 of the endpoint, $7 which requests (JSON), $8 kinds of events, $9 subscriptions of an operator at the most
WITH own AS (
    SELECT l.listener_id, l.subscription_id, l.removed_at FROM listeners l
    WHERE l.tenant_id = $2 AND l.operator_id = $3
), forgotten AS (
    -- Long told all that was queued for it.
    DELETE FROM listeners l USING own o
    WHERE l.listener_id = o.listener_id AND o.removed_at < at_or_now($1) - interval '2 days' AND o.subscription_id <> $4
), moved AS (
    UPDATE listeners l
    SET removed_at = at_or_now($1), config = '{}', event_kinds = '{}', updated_at = at_or_now($1), updated_by = $3
    WHERE l.kind = 'browser' AND l.target_sha256 = $6 AND l.removed_at IS NULL
        AND (l.tenant_id, l.operator_id, l.subscription_id) <> ($2, $3, $4)
    RETURNING l.listener_id
)
INSERT INTO listeners AS l (tenant_id, operator_id, subscription_id, kind, config, target_sha256, event_kinds, matching,
    created_at, updated_at, updated_by)
SELECT $2, $3, $4, 'browser', $5::text::jsonb, $6, $8::text[], $7::text::jsonb, at_or_now($1), at_or_now($1), $3
-- The one before has to end first: listeners_one_owner.
FROM (SELECT count(*) FROM moved) AS ended
WHERE EXISTS (SELECT FROM own WHERE subscription_id = $4 AND removed_at IS NULL) OR (
    $9::bigint > (
        SELECT count(*) FROM own WHERE removed_at IS NULL AND listener_id NOT IN (SELECT listener_id FROM moved)
    )
    -- Names of the last days that are over are kept; they are bounded too.
    AND 10 * $9 > (SELECT count(*) FROM own WHERE COALESCE(removed_at, 'infinity') >= at_or_now($1) - interval '2 days')
)
ON CONFLICT (tenant_id, operator_id, subscription_id) DO UPDATE
SET config = $5::text::jsonb, target_sha256 = $6, event_kinds = $8::text[], matching = $7::text::jsonb,
    updated_at = at_or_now($1), updated_by = $3, removed_at = NULL,
    created_at = CASE WHEN l.removed_at IS NULL THEN l.created_at ELSE at_or_now($1) END
RETURNING l.subscription_id AS "subscription_id!: SubscriptionId", l.matching::text AS "matching!", l.created_at, l.updated_at
