/* relaytrace: adjusted_before */
-- How a request stands that was not adjusted, with what adjusted it before, newest first.
--
-- $1 now (null: the database's clock), $2 request_id, $3 tenant_id
SELECT r.status AS "status: Status", r.respond_by, at_or_clock($1) AS "now!: DateTime<Utc>",
    ARRAY(
        SELECT c.entry FROM approval_chain c
        WHERE c.request_id = r.request_id AND c.kind IN ('extended', 'reprioritised')
        ORDER BY c.seq DESC
    ) AS "entries!"
FROM hitl_requests r WHERE r.request_id = $2 AND r.tenant_id = $3
