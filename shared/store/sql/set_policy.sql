/* relaytrace: set_policy */
-- Sets a tenant's policy of a scope; one of the deployment stays, for the others. The agent is looked up here: its absence is an answer, not a broken foreign key.
--
-- $1 now (null: the database's clock), $2 agent_id (null: any), $3 action_type (null: any), $4 priority,
-- $5 respond_within_seconds, $6 escalate_after_percent (null: never), $7 on_timeout, $8 lowest_priority (null: any),
-- $9 the administrator's id, $10 tenant_id, $11 and $12 the administrator's kind and name,
-- $13 permit_seconds (null: it does not say), $14 consume_required, $15 approvals (null: one)
WITH before AS (
    -- Locked, so that the log says what it was.
    SELECT p.* FROM timeout_policies p
    WHERE p.tenant_id = $10 AND p.priority = $4 AND p.agent_id IS NOT DISTINCT FROM $2 AND p.action_type IS NOT DISTINCT FROM $3
    FOR NO KEY UPDATE
), policy AS (
    INSERT INTO timeout_policies (
        tenant_id, agent_id, action_type, priority, respond_within_seconds, escalate_after_percent, on_timeout,
        lowest_priority, updated_at, updated_by, permit_seconds, consume_required, approvals
    )
    SELECT $10, $2::text, $3, $4, $5, $6, $7, $8, at_or_now($1), $9, $13::integer, $14::boolean, $15::smallint
    WHERE ($2 IS NULL OR EXISTS (SELECT FROM agents a WHERE a.agent_id = $2 AND a.tenant_id = $10))
        -- Always so, and known only when the row is locked.
        AND (SELECT count(*) FROM before) >= 0
    ON CONFLICT ON CONSTRAINT timeout_policies_scope_key DO UPDATE
    SET respond_within_seconds = excluded.respond_within_seconds,
        escalate_after_percent = excluded.escalate_after_percent, on_timeout = excluded.on_timeout,
        lowest_priority = excluded.lowest_priority, updated_at = excluded.updated_at,
        updated_by = excluded.updated_by, permit_seconds = excluded.permit_seconds,
        consume_required = excluded.consume_required, approvals = excluded.approvals
    RETURNING *
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT $10, p.updated_at, $11::text, $9, $12::text, 'policy.set', p.policy_id::text,
        jsonb_build_object('was', (SELECT to_jsonb(b) FROM before b), 'became', to_jsonb(p))
    FROM policy p
)
SELECT policy_id AS "policy_id!", agent_id AS "agent_id: AgentId", action_type AS "action_type: ActionType",
    priority AS "priority!: Priority", respond_within_seconds AS "respond_within_seconds!", escalate_after_percent,
    on_timeout AS "on_timeout!: OnTimeout", lowest_priority AS "lowest_priority: Priority",
    updated_at AS "updated_at!", updated_by AS "updated_by!", permit_seconds, consume_required AS "consume_required!",
    approvals
FROM policy
