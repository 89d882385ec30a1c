/* relaytrace: operator_named */
-- The name of an operator. $1 tenant_id, $2 operator_id
SELECT name FROM operators WHERE tenant_id = $1 AND operator_id = $2
