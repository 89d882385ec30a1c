-- no-transaction
-- For the sweep and the gauges, which look at all tenants. A decision writes no entry of it.
CREATE INDEX CONCURRENTLY hitl_requests_pending ON hitl_requests (priority, respond_by) WHERE status = 'pending';
