/* relaytrace: end_browsers */
-- Browsers of people who were not seen for 14 days are told nothing any more: whoever comes back turns it on again.
--
-- $1 now (null: the database's clock)
UPDATE listeners l SET removed_at = at_or_now($1), config = '{}', event_kinds = '{}', updated_at = at_or_now($1),
    updated_by = 'notify'
WHERE l.kind = 'browser' AND l.removed_at IS NULL AND NOT EXISTS (
    SELECT FROM operators o
    WHERE o.tenant_id = l.tenant_id AND o.operator_id = l.operator_id AND o.seen_at > at_or_now($1) - interval '14 days'
)
