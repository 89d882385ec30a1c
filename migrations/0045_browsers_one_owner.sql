-- no-transaction
CREATE UNIQUE INDEX CONCURRENTLY listeners_one_owner ON listeners (target_sha256) WHERE removed_at IS NULL;
