/* relaytrace: rule_failures */
-- How often rules of a version could not be judged. $1 tenant_id, $2 version
SELECT rule_name, failures FROM rule_failures WHERE tenant_id = $1 AND version = $2 ORDER BY rule_name
