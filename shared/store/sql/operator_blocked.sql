/* relaytrace: operator_blocked */
-- Whether a person is blocked. Nobody who was never seen is.
--
-- $1 tenant_id, $2 operator_id
SELECT EXISTS (
    SELECT FROM operators WHERE tenant_id = $1 AND operator_id = $2 AND status = 'blocked'
) AS "is_blocked!"
