-- A deployment's epochs. Its first has no row. Another one begins with each restore to an older point that is declared:
-- what happens from then on is told under ids of its own, so that nobody takes it for what was lost.
SET LOCAL lock_timeout = '2s';

CREATE TABLE epochs (
    epoch       integer     NOT NULL,
    begins_at   timestamptz NOT NULL,
    declared_at timestamptz NOT NULL,
    reason      text        NOT NULL,
    CONSTRAINT epochs_pkey PRIMARY KEY (epoch),
    CONSTRAINT epochs_begin_one_after_the_other UNIQUE (begins_at),
    CONSTRAINT epochs_come_after_the_first CHECK (epoch > 1)
);
COMMENT ON TABLE epochs IS 'Restores that were declared. The owner''s alone to write (relaytrace declare-restore), who makes epoch_of again with it.';
COMMENT ON COLUMN epochs.epoch IS 'From 2: the third part of event ids, and a member of chain entries and receipts.';
COMMENT ON COLUMN epochs.begins_at IS 'Later than every chain entry that was restored; entries from then on belong to it.';
COMMENT ON COLUMN epochs.declared_at IS 'When it was declared. Events on the stream from before it may be of what was lost.';
COMMENT ON COLUMN epochs.reason IS 'Why, in the administrator''s words.';

-- A constant and not a look into the table: the planner folds it away, so that it costs no statement anything.
CREATE FUNCTION epoch_of(at timestamptz) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 1;
COMMENT ON FUNCTION epoch_of IS 'The epoch of a chain entry, by its time: what the table epochs says, made again with each row.';

CREATE OR REPLACE FUNCTION chain_entry(
    request_id uuid, seq integer, kind text, at timestamptz, actor text, details text
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN convert_to(
        '{"request_id":"' || request_id || '","seq":' || seq || ',"kind":"' || kind
        || '","at":"' || rfc3339(at) || '","actor":' || actor
        || COALESCE(',' || NULLIF(details, ''), '')
        || CASE WHEN epoch_of(at) > 1 THEN ',"epoch":' || epoch_of(at) ELSE '' END || '}', 'UTF8');

CREATE OR REPLACE FUNCTION handoff_event(
    kind text, request_id uuid, seq integer, at timestamptz, agent_id text, client_request_key text,
    priority smallint, action_digest bytea, head bytea, outcome text, cause text, tenant_id text
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN convert_to(
        '{"specversion":"1.0","id":"' || request_id || '/' || seq
        || CASE WHEN epoch_of(at) > 1 THEN '/' || epoch_of(at) ELSE '' END
        || '","source":"/relaytrace","type":"handoff.' || kind
        || '","subject":"' || request_id || '","time":"' || rfc3339(at)
        || '","datacontenttype":"application/json","sequence":' || seq
        || ',"data":{"agent_id":"' || agent_id || '","client_request_key":"' || client_request_key
        || '","priority":"P' || priority || '","action_digest":"' || digest_text(action_digest)
        || '","chain":{"length":' || seq || ',"head":"' || digest_text(head) || '"}'
        || CASE WHEN outcome IS NULL THEN '' ELSE ',"outcome":"' || outcome || '","cause":"' || cause || '"' END
        || CASE WHEN tenant_id = 'default' THEN '' ELSE ',"tenant":"' || tenant_id || '"' END
        || '}}', 'UTF8');

GRANT SELECT ON epochs TO relaytrace_app;
