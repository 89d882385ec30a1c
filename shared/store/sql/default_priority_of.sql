/* relaytrace: default_priority_of */
-- The priority of what an agent asks by a protocol without priorities.
--
-- $1 agent_id
SELECT default_priority AS "default_priority: Priority" FROM agents WHERE agent_id = $1
