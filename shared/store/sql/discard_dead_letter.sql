/* relaytrace: discard_dead_letter */
-- Gives up what a dead letter is about.
--
-- $1 now (null: the database's clock), $2 dead_letter_id, $3 the administrator's id, $4 reason, $5 tenant_id, $6 and $7 the
-- administrator's kind and name
WITH delivery AS (
    -- Delivery before dead letter, as everywhere. What a dead letter is about never changes, and may be read without a
    -- lock.
    SELECT d.request_id
    FROM dead_letters x JOIN deliveries d ON d.request_id = x.request_id
    WHERE x.dead_letter_id = $2 AND x.tenant_id = $5 AND x.kind = 'delivery' AND d.dead_letter_id = $2
    FOR NO KEY UPDATE OF d
), given_up AS (
    UPDATE deliveries d SET dead_letter_id = NULL FROM delivery g WHERE d.request_id = g.request_id
    RETURNING d.request_id
), discarded AS (
    UPDATE dead_letters x
    SET resolved_at = at_or_now($1), resolution = 'discarded', resolved_by = $3, resolve_reason = $4
    WHERE x.dead_letter_id = $2 AND x.tenant_id = $5 AND x.resolved_at IS NULL
        -- Always so, and known only when the delivery is locked: without it the dead letter would be locked first.
        AND (SELECT count(*) FROM given_up) >= 0
    RETURNING x.dead_letter_id, x.kind, x.request_id
)
INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
SELECT $5, at_or_now($1), $6::text, $3, $7::text, 'dead_letter.discarded', dead_letter_id::text,
    jsonb_build_object('kind', kind, 'request_id', request_id, 'reason', $4::text)
FROM discarded
