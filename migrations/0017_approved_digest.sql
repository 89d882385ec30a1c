-- What an edit approves is another action than the one that was asked for.
SET LOCAL lock_timeout = '2s';

ALTER TABLE hitl_requests ADD COLUMN approved_digest bytea;
COMMENT ON COLUMN hitl_requests.approved_digest IS 'Digest of the action as it was edited: what its permit is for; null: it was not edited, action_digest is.';
COMMENT ON COLUMN hitl_requests.on_behalf_of IS 'Id of the person for whom the agent acts, in lower case, who may not approve it.';
