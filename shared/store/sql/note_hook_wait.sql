/* relaytrace: note_hook_wait */
-- Notes that a harness is told to wait. No row: the key or agent is not active.
--
-- $1 now (null: the database's clock), $2 key_id, $3 agent_id, $4 session_id, $5 action_digest, $6 request_id
INSERT INTO hook_waits AS w (agent_id, session_id, action_digest, request_id, answered_at)
SELECT k.agent_id, $4::text, $5::bytea, $6::uuid, at_or_clock($1)
FROM active_keys k WHERE k.key_id = $2 AND k.agent_id = $3
ON CONFLICT (request_id) DO UPDATE SET answered_at = GREATEST(w.answered_at, excluded.answered_at)
RETURNING request_id AS "request_id: RequestId"
