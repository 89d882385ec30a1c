/* relaytrace: end_freeze */
-- Ends a freeze. Its row stays: a stop revokes for ever what was decided before its end.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 freeze_id, $4 to $6 kind, id and name of the administrator
WITH standing AS (
    SELECT f.* FROM freezes f
    WHERE f.tenant_id = $2 AND f.freeze_id = $3 AND f.ended_at IS NULL
    FOR NO KEY UPDATE
), ended AS (
    UPDATE freezes f SET ended_at = GREATEST(at_or_clock($1), s.created_at), ended_by = $5
    FROM standing s
    WHERE f.tenant_id = s.tenant_id AND f.freeze_id = s.freeze_id AND f.created_at = s.created_at
    RETURNING f.*
)
INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
SELECT $2, e.ended_at, $4::text, $5::text, $6::text, 'freeze.ended', e.freeze_id, jsonb_build_object('was', to_jsonb(e))
FROM ended e
