/* relaytrace: delegations */
-- Delegations of a tenant, the newest first.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 delegation_id (null: any), $4 delegator or delegate (null: any),
-- $5 and $6 time and id of the one before the page (null: the first page), $7 at most so many
SELECT d.delegation_id AS "delegation_id: DelegationId", d.delegator_id, d.delegator_name, d.delegate_id,
    o.name AS "delegate_name?", d.groups, d.starts_at, d.until, d.reason, d.created_at, d.ended_at, d.ended_by,
    d.starts_at <= at_or_now($1) AND d.ends_at > at_or_now($1) AND EXISTS (
        SELECT FROM operators f
        WHERE f.tenant_id = d.tenant_id AND f.operator_id = d.delegator_id AND f.status = 'active'
            AND f.seen_at > at_or_now($1) - interval '14 days' AND f.groups && d.groups
    ) AS "is_in_force!"
FROM delegations d
LEFT JOIN operators o ON o.tenant_id = d.tenant_id AND o.operator_id = d.delegate_id
WHERE d.tenant_id = $2 AND d.delegation_id = COALESCE($3::text, d.delegation_id)
    AND ($4::text IS NULL OR $4 IN (d.delegator_id, d.delegate_id))
    AND (d.created_at, d.delegation_id) < (COALESCE($5::timestamptz, 'infinity'), COALESCE($6::text, ''))
ORDER BY d.created_at DESC, d.delegation_id DESC
LIMIT $7::bigint
