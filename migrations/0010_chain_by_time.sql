-- no-transaction
CREATE INDEX CONCURRENTLY approval_chain_by_time ON approval_chain (at);
