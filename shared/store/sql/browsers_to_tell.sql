/* relaytrace: browsers_to_tell */
-- Which browsers are told of these events: of people who may act on the request now, themselves or for somebody, whom we
-- know well enough: seen within 14 days, not blocked. What is over is told to nobody. Of a tenant's browsers only those of
-- these people are looked at.
--
-- $1 now (null: the database's clock)
-- Arrays, one element for each event: $2 request_id, $3 seq, $4 kind
WITH asked AS MATERIALIZED (
    -- Requests that the same people are asked have the same number.
    SELECT q.request_id, q.seq, q.kind, r.tenant_id, r.priority, r.assigned_groups, r.assigned_operators,
        dense_rank() OVER (ORDER BY r.tenant_id, r.assigned_groups, r.assigned_operators) AS assignment
    FROM UNNEST($2::uuid[], $3::integer[], $4::text[]) AS q (request_id, seq, kind)
    -- In these words no plan looks through what is pending.
    JOIN hitl_requests r ON r.request_id = q.request_id AND r.status <> 'decided'
), owners AS MATERIALIZED (
    SELECT o.tenant_id, o.operator_id, o.groups FROM operators o
    WHERE o.tenant_id IN (SELECT tenant_id FROM asked)
        AND o.status = 'active' AND o.seen_at > at_or_now($1) - interval '14 days'
        AND EXISTS (
            SELECT FROM listeners l
            WHERE l.tenant_id = o.tenant_id AND l.operator_id = o.operator_id AND l.removed_at IS NULL
        )
), people AS MATERIALIZED (
    -- The dear question, once for each person and assignment, whatever their browsers, events and requests are.
    SELECT a.assignment, o.tenant_id, o.operator_id
    FROM (SELECT DISTINCT assignment, tenant_id, assigned_groups, assigned_operators FROM asked) a
    JOIN owners o USING (tenant_id)
    WHERE may_act_on(
        a.tenant_id, a.assigned_groups, a.assigned_operators,
        jsonb_build_object('id', o.operator_id, 'groups', o.groups), at_or_now($1)
    )
)
SELECT l.listener_id, a.request_id AS "request_id!: RequestId", a.seq AS "seq!", a.kind AS "kind!"
FROM people p
JOIN asked a USING (assignment)
JOIN listeners l ON l.tenant_id = p.tenant_id AND l.operator_id = p.operator_id AND l.kind = 'browser'
    AND l.removed_at IS NULL AND a.kind = ANY (l.event_kinds)
WHERE (l.matching -> 'priorities' IS NULL OR l.matching -> 'priorities' ? ('P' || a.priority))
    AND (l.matching -> 'groups' IS NULL OR EXISTS (
        SELECT FROM unnest(a.assigned_groups) AS g (name) WHERE l.matching -> 'groups' ? g.name
    ))
