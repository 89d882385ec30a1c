-- What 0018 left to be looked at, without a lock that stops anybody: every approval that is there is of a person, a timeout
-- or a rule, and nothing has written a freeze yet.
SET LOCAL lock_timeout = '2s';

ALTER TABLE hitl_decisions VALIDATE CONSTRAINT hitl_decisions_approved_by_who_may;
ALTER TABLE freezes VALIDATE CONSTRAINT freezes_end;
