/* relaytrace: claim */
-- Says who is at a pending request. No row: it is not pending, over, or not the caller's to decide; a second statement finds
-- out. Advice only: the request is not locked.
--
-- $1 now (null: the database's clock), $2 request_id, $3 tenant_id, $4 and $5 id and name of the operator, $6 seconds,
-- $7 the operator as `may_act_on` takes them
WITH over AS (
    -- So that the table does not grow: each claim takes some away that have ended.
    SELECT c.request_id FROM claims c
    WHERE c.claimed_until < at_or_now($1) AND c.request_id <> $2
    LIMIT 10 FOR UPDATE SKIP LOCKED
), dropped AS (
    DELETE FROM claims c USING over o WHERE c.request_id = o.request_id
)
INSERT INTO claims AS c (request_id, tenant_id, operator_id, operator_name, claimed_until)
SELECT r.request_id, r.tenant_id, $4::text, $5::text, at_or_now($1) + make_interval(secs => $6::double precision)
FROM hitl_requests r
-- In these words no plan looks through what is pending.
WHERE r.request_id = $2 AND r.tenant_id = $3 AND r.status <> 'decided' AND at_or_now($1) < r.respond_by
    AND may_act_on(r.tenant_id, r.assigned_groups, r.assigned_operators, $7::jsonb, at_or_now($1))
ON CONFLICT (request_id) DO UPDATE
SET operator_id = excluded.operator_id, operator_name = excluded.operator_name, claimed_until = excluded.claimed_until
RETURNING claimed_until
