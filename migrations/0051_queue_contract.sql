-- no-transaction
-- In its place are those of 0049 and 0050: the queue of a tenant read what was pending in all others. Statements of older
-- binaries find an index for everything. IF EXISTS: a run that was cut short is repeated.
DROP INDEX CONCURRENTLY IF EXISTS hitl_requests_queue;
