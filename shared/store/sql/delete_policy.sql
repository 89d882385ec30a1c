/* relaytrace: delete_policy */
-- Removes a policy; the log keeps what it was. The widest policy of a priority stays: without it nothing could be asked.
--
-- $1 now (null: the database's clock), $2 policy_id, $3 tenant_id, $4 to $6 kind, id and name of who does it
WITH deleted AS (
    DELETE FROM timeout_policies p
    WHERE p.policy_id = $2 AND p.tenant_id = $3
        AND (p.agent_id IS NOT NULL OR p.action_type IS NOT NULL)
    RETURNING p.*
)
INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
SELECT $3, at_or_now($1), $4::text, $5::text, $6::text, 'policy.deleted', policy_id::text,
    jsonb_build_object('was', to_jsonb(d))
FROM deleted d
