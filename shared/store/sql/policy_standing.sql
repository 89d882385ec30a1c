/* relaytrace: policy_standing */
-- Whether a policy is there and stays, and whether it was.
--
-- $1 policy_id, $2 tenant_id
SELECT
    EXISTS (
        SELECT FROM timeout_policies p WHERE p.policy_id = $1
            AND (p.tenant_id IS NULL OR p.tenant_id = $2 AND p.agent_id IS NULL AND p.action_type IS NULL)
    ) AS "is_widest!",
    EXISTS (
        SELECT FROM admin_log l
        WHERE l.tenant_id = $2 AND l.action = 'policy.deleted' AND l.subject = $1::text
    ) AS "was_deleted!"
