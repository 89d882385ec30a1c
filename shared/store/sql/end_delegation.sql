/* relaytrace: end_delegation */
-- Ends a delegation. Its row stays.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 delegation_id, $4 to $6 kind, id and name of who ends it,
-- $7 whether it may be another's
UPDATE delegations d
SET ended_at = GREATEST(at_or_clock($1), d.created_at), ended_by_kind = $4::text, ended_by = $5::text, ended_by_name = $6::text
WHERE d.tenant_id = $2 AND d.delegation_id = $3 AND d.ended_at IS NULL AND (d.delegator_id = $5 OR $7::boolean)
