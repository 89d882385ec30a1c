-- no-transaction
CREATE INDEX CONCURRENTLY freezes_by_end ON freezes (tenant_id, ends_at);
