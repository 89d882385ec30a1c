-- No row breaks what 0034 asks of new ones. Readers and writers go on meanwhile.
SET LOCAL lock_timeout = '2s';
ALTER TABLE hitl_requests VALIDATE CONSTRAINT hitl_requests_sound;
ALTER TABLE hitl_decisions VALIDATE CONSTRAINT hitl_decisions_sound;
ALTER TABLE approval_chain VALIDATE CONSTRAINT approval_chain_sound;
