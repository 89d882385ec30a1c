/* relaytrace: browsers_of */
-- An operator's own push subscriptions, in the order of their names. They are few.
--
-- $1 tenant_id, $2 operator_id
SELECT subscription_id AS "subscription_id!: SubscriptionId", matching::text AS "matching!", created_at, updated_at
FROM listeners
WHERE tenant_id = $1 AND operator_id = $2 AND removed_at IS NULL
ORDER BY subscription_id
