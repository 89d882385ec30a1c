/* relaytrace: count_rule_failure */
-- Counts a submission that a rule could not judge. $1 tenant_id, $2 version, $3 name of the rule
INSERT INTO rule_failures AS f (tenant_id, version, rule_name, failures) VALUES ($1, $2, $3, 1)
ON CONFLICT (tenant_id, version, rule_name) DO UPDATE SET failures = f.failures + 1
