-- no-transaction
CREATE INDEX CONCURRENTLY dead_letters_open ON dead_letters (kind) WHERE resolved_at IS NULL;
