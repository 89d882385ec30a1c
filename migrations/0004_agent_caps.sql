-- Caps on what an agent may have pending, kept by a counter: nothing counts rows.

CREATE TABLE agent_caps (
    agent_id       text    NOT NULL,
    max_pending    integer,
    max_pending_p1 integer,
    pending        integer NOT NULL DEFAULT 0,
    pending_p1     integer NOT NULL DEFAULT 0,
    CONSTRAINT agent_caps_pkey PRIMARY KEY (agent_id),
    CONSTRAINT agent_caps_agent_exists FOREIGN KEY (agent_id) REFERENCES agents (agent_id),
    CONSTRAINT agent_caps_positive CHECK (max_pending > 0 AND max_pending_p1 > 0),
    CONSTRAINT agent_caps_counts_possible CHECK (pending_p1 >= 0 AND pending >= pending_p1)
);
COMMENT ON TABLE agent_caps IS 'One row for each agent, there from its registration, so that a statement that waited for it sees what it became. Its counts are touched for a capped agent only, whose submissions therefore wait for each other here.';
COMMENT ON COLUMN agent_caps.agent_id IS 'The agent.';
COMMENT ON COLUMN agent_caps.max_pending IS 'Requests that it may have pending; null: any number.';
COMMENT ON COLUMN agent_caps.max_pending_p1 IS 'Of these with priority P1; null: any number.';
COMMENT ON COLUMN agent_caps.pending IS 'How many rows of hitl_requests are pending and counted.';
COMMENT ON COLUMN agent_caps.pending_p1 IS 'Of these those that have priority P1 now.';
INSERT INTO agent_caps (agent_id) SELECT agent_id FROM agents;

ALTER TABLE hitl_requests ADD COLUMN counted boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN hitl_requests.counted IS 'Whether agent_caps counts it while it is pending.';

CREATE FUNCTION within_cap(count integer, cap integer, name text) RETURNS integer
    LANGUAGE plpgsql AS $$
BEGIN
    IF count > cap THEN
        RAISE EXCEPTION '% is %', name, cap USING ERRCODE = 'RT429', CONSTRAINT = name;
    END IF;
    RETURN count;
END
$$;
COMMENT ON FUNCTION within_cap IS 'The count, unless it is over the cap: then the statement is refused as a whole.';

GRANT SELECT, INSERT, UPDATE ON agent_caps TO relaytrace_app;
