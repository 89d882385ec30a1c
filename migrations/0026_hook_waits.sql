-- Requests of a harness that was told "still waiting", and the search of what bridges store. Additive.
SET LOCAL lock_timeout = '2s';

CREATE TABLE hook_waits (
    agent_id      text        NOT NULL,
    session_id    text        NOT NULL,
    action_digest bytea       NOT NULL,
    request_id    uuid        NOT NULL,
    answered_at   timestamptz NOT NULL,
    CONSTRAINT hook_waits_pkey PRIMARY KEY (agent_id, session_id, action_digest, request_id)
);
CREATE UNIQUE INDEX hook_waits_of_request ON hook_waits (request_id);
CREATE INDEX hook_waits_at ON hook_waits (answered_at);
COMMENT ON TABLE hook_waits IS 'Requests whose harness was last told that they still wait: the next call of the same session that asks the same continues the newest, and takes its row.';
COMMENT ON COLUMN hook_waits.agent_id IS 'Who asks.';
COMMENT ON COLUMN hook_waits.session_id IS 'The harness''s session, as far as a key has room for it.';
COMMENT ON COLUMN hook_waits.action_digest IS 'Of the tool and its input.';
COMMENT ON COLUMN hook_waits.request_id IS 'The request.';
COMMENT ON COLUMN hook_waits.answered_at IS 'When its harness was told so; rows are dropped 7 days later.';
GRANT SELECT, INSERT, UPDATE, DELETE ON hook_waits TO relaytrace_app;

-- The same as before, and the arguments of a bridge's protocol, which stand on the first level there.
CREATE OR REPLACE FUNCTION searchable_arguments(envelope bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    said jsonb := convert_from(envelope, 'UTF8')::jsonb;
BEGIN
    -- As the person typed them: quotes and backslashes without their escapes.
    RETURN replace(replace(COALESCE(said #> '{action,arguments}', said -> 'arguments')::text, '\"', '"'), '\\', '\');
EXCEPTION
    -- 1e-20000 is a number of JSON and none of numeric: one such request must not end everybody's search.
    WHEN data_exception THEN RETURN NULL;
END
$$;
