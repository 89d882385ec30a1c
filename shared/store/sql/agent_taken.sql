/* relaytrace: agent_taken */
-- Whether an agent_id is taken, by whomever: names of agents are the deployment's.
--
-- $1 agent_id
SELECT EXISTS (SELECT FROM agents WHERE agent_id = $1) AS "is_taken!"
