-- no-transaction
CREATE INDEX CONCURRENTLY agents_of_tenant ON agents (tenant_id, agent_id);
