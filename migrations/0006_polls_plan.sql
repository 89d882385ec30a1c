-- A poll never takes the sweep's index. With the same predicate as deliveries_due it was as good to the planner once
-- ANALYZE had found nothing due: then each poll looked at what is due for everybody. Polls do not say that attempt is
-- not negative, so their statement does not imply this predicate; the sweep does, and every row is in it.

ALTER TABLE deliveries ADD CONSTRAINT deliveries_attempt_not_negative CHECK (attempt >= 0);
CREATE INDEX deliveries_exhausted ON deliveries (expires_at) WHERE state IN ('ready', 'leased') AND attempt >= 0;
DROP INDEX deliveries_expiry;
