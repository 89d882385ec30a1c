/* relaytrace: mark_key_used */
-- From now on the key's response secret is not shown again.
--
-- $1 key_id
UPDATE agent_keys SET first_used_at = now() WHERE key_id = $1 AND first_used_at IS NULL
