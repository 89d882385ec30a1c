/* relaytrace: release_claim */
-- Takes back who is at a request. $1 request_id, $2 tenant_id, $3 the operator
WITH released AS (
    DELETE FROM claims c WHERE c.request_id = $1 AND c.tenant_id = $2 AND c.operator_id = $3
)
SELECT EXISTS (SELECT FROM hitl_requests r WHERE r.request_id = $1 AND r.tenant_id = $2) AS "is_there!"
