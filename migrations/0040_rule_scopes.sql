-- A rule that comes to be about something else counts anew. Additive.
SET LOCAL lock_timeout = '2s';
ALTER TABLE rule_uses ADD COLUMN scope text;
COMMENT ON COLUMN rule_uses.scope IS 'Digest of the rule''s match, as the version had it that counted last.';
