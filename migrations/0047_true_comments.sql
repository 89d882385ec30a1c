-- Comments that say what the columns hold now.
SET LOCAL lock_timeout = '2s';
COMMENT ON COLUMN listeners.target_sha256 IS 'Of a browser: SHA-256 of its endpoint, without what follows a #. A browser is its latest owner''s alone.';
COMMENT ON COLUMN rule_effects.would IS 'Submissions that name it as their shadow rule: of the rules in the shadow the first that held.';
COMMENT ON COLUMN rule_uses.most IS 'So many decisions, as the version said that counted last. No statement reads it: for whoever looks at why a limit was reached.';
COMMENT ON COLUMN rule_uses.per_seconds IS 'In so many seconds, as the version said that counted last. No statement reads it, as with most.';
