/* relaytrace: remove_browser */
-- Ends an operator's own push subscription. One row where there was one of this name in the last days.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 operator_id, $4 subscription_id
WITH standing AS (
    SELECT l.listener_id, l.removed_at FROM listeners l
    WHERE l.tenant_id = $2 AND l.operator_id = $3 AND l.subscription_id = $4
    FOR NO KEY UPDATE
), removed AS (
    UPDATE listeners l
    SET removed_at = at_or_now($1), config = '{}', event_kinds = '{}', updated_at = at_or_now($1), updated_by = $3
    FROM standing s WHERE l.listener_id = s.listener_id AND s.removed_at IS NULL
)
SELECT listener_id FROM standing
