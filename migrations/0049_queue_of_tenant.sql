-- no-transaction
CREATE INDEX CONCURRENTLY hitl_requests_queue_of_tenant ON hitl_requests (tenant_id, status, priority, respond_by, request_id);
