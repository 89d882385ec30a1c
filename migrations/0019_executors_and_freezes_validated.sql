-- Reads the table without a lock that stops anybody: every approval that is there is of a person, a timeout or a rule.
SET LOCAL lock_timeout = '2s';

ALTER TABLE hitl_decisions VALIDATE CONSTRAINT hitl_decisions_approved_by_who_may;
