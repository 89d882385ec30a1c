-- Delegations that have ended are not read where it is asked who may decide, and those who act for another may do there
-- what does not decide.
SET LOCAL lock_timeout = '2s';

CREATE OR REPLACE FUNCTION may_decide(
    tenant text, assigned_groups text[], assigned_operators text[], person jsonb, at timestamptz
) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN person ->> 'for' IS NULL THEN
        (assigned_groups IS NULL AND assigned_operators IS NULL)
        OR COALESCE(person ->> 'id' = ANY (assigned_operators), false)
        OR COALESCE(assigned_groups && ARRAY(SELECT jsonb_array_elements_text(person -> 'groups')), false)
    ELSE EXISTS (
        SELECT FROM delegations d
        JOIN operators o ON o.tenant_id = d.tenant_id AND o.operator_id = d.delegator_id
        WHERE d.tenant_id = tenant AND d.delegator_id = person ->> 'for' AND d.delegate_id = person ->> 'id'
            AND d.ended_at IS NULL AND d.starts_at <= at AND d.ends_at > at
            AND o.status = 'active' AND o.seen_at > at - interval '14 days'
            AND (
                (assigned_groups IS NULL AND assigned_operators IS NULL)
                -- What was delegated, and the delegator still has.
                OR EXISTS (
                    SELECT FROM unnest(assigned_groups) AS g (name) WHERE g.name = ANY (d.groups) AND g.name = ANY (o.groups)
                )
            )
    ) END;
END;

CREATE FUNCTION may_act_on(
    tenant text, assigned_groups text[], assigned_operators text[], person jsonb, at timestamptz
) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT may_decide(tenant, assigned_groups, assigned_operators, person, at) OR EXISTS (
        SELECT FROM (
            SELECT DISTINCT d.delegator_id FROM delegations d
            WHERE d.tenant_id = tenant AND d.delegate_id = person ->> 'id'
                AND d.ended_at IS NULL AND d.starts_at <= at AND d.ends_at > at
        ) g
        WHERE may_decide(tenant, assigned_groups, assigned_operators, person || jsonb_build_object('for', g.delegator_id), at)
    );
END;
COMMENT ON FUNCTION may_act_on IS 'Whether a person may decide it as themselves or for somebody: what claims and reroutes ask.';
