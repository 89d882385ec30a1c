/* relaytrace: push_of */
-- An agent's push: none where no secret was ever made.
--
-- $1 agent_id, $2 tenant_id
SELECT config ->> 'url' AS url, sealed FROM listeners WHERE agent_id = $1 AND tenant_id = $2
