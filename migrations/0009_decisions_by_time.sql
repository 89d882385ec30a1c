-- no-transaction
CREATE INDEX CONCURRENTLY hitl_decisions_by_time ON hitl_decisions (tenant_id, decided_at, request_id);
