/* relaytrace: browsers_to_tell */
-- Which browsers are told of these events: of people who may act on the request now, themselves or for somebody, whom we
-- know well enough: seen within 14 days, not blocked. What is over is told to nobody.
--
-- $1 now (null: the database's clock)
-- Arrays, one element for each event: $2 request_id, $3 seq, $4 kind
SELECT l.listener_id, r.request_id AS "request_id: RequestId", q.seq AS "seq!", q.kind AS "kind!"
FROM UNNEST($2::uuid[], $3::integer[], $4::text[]) AS q (request_id, seq, kind)
JOIN hitl_requests r ON r.request_id = q.request_id AND r.status = 'pending'
JOIN listeners l ON l.tenant_id = r.tenant_id AND l.kind = 'browser' AND l.removed_at IS NULL
    AND q.kind = ANY (l.event_kinds)
JOIN operators o ON o.tenant_id = l.tenant_id AND o.operator_id = l.operator_id
    AND o.status = 'active' AND o.seen_at > at_or_now($1) - interval '14 days'
WHERE (l.matching -> 'priorities' IS NULL OR l.matching -> 'priorities' ? ('P' || r.priority))
    AND (l.matching -> 'groups' IS NULL OR EXISTS (
        SELECT FROM unnest(r.assigned_groups) AS g (name) WHERE l.matching -> 'groups' ? g.name
    ))
    AND may_act_on(
        r.tenant_id, r.assigned_groups, r.assigned_operators,
        jsonb_build_object('id', o.operator_id, 'groups', o.groups), at_or_now($1)
    )
