/* relaytrace: rule_counts */
-- What rules of a version did. $1 tenant_id, $2 version
SELECT COALESCE(f.rule_name, e.rule_name) AS "rule_name!", COALESCE(f.failures, 0) AS "failures!",
    COALESCE(e.applied, 0) AS "applied!", COALESCE(e.would, 0) AS "would!"
FROM (SELECT * FROM rule_failures WHERE tenant_id = $1 AND version = $2) f
FULL JOIN (SELECT * FROM rule_effects WHERE tenant_id = $1 AND version = $2) e USING (rule_name)
