/* relaytrace: count_rules */
-- Counts what rules did.
--
-- Arrays, one element for each rule: $1 tenant_id, $2 version, $3 name of the rule, $4 submissions that it was applied to,
-- $5 that it could not judge, $6 that name it as their rule of the shadow
WITH counted AS MATERIALIZED (
    -- Committed asynchronously: a crash may lose counts.
    SELECT i.*, set_config('synchronous_commit', 'off', true)
    FROM UNNEST($1::text[], $2::integer[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
        AS i (tenant_id, version, rule_name, applied, failures, would)
), failed AS (
    INSERT INTO rule_failures AS f (tenant_id, version, rule_name, failures)
    SELECT tenant_id, version, rule_name, failures FROM counted WHERE failures > 0
    ORDER BY tenant_id, version, rule_name
    ON CONFLICT (tenant_id, version, rule_name) DO UPDATE SET failures = f.failures + excluded.failures
)
INSERT INTO rule_effects AS e (tenant_id, version, rule_name, applied, would)
SELECT tenant_id, version, rule_name, applied, would FROM counted WHERE applied > 0 OR would > 0
ORDER BY tenant_id, version, rule_name
ON CONFLICT (tenant_id, version, rule_name) DO UPDATE
SET applied = e.applied + excluded.applied, would = e.would + excluded.would
