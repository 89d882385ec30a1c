-- Decisions are attested by the function that makes them. What was decided before is known by its time, which nobody
-- but the owner can move, and which no entry can be dated before once it has passed.
SET LOCAL lock_timeout = '2s';

CREATE TABLE attestation_start (
    is_only_row   boolean     NOT NULL DEFAULT true,
    attested_from timestamptz NOT NULL,
    CONSTRAINT attestation_start_pkey PRIMARY KEY (is_only_row),
    CONSTRAINT attestation_start_has_one_row CHECK (is_only_row)
);
COMMENT ON TABLE attestation_start IS 'Since when decisions are attested. The owner''s alone to write.';
COMMENT ON COLUMN attestation_start.is_only_row IS 'There is one row.';
COMMENT ON COLUMN attestation_start.attested_from IS 'A decided entry from this moment on gets no receipt without an attestation. In a database that has decisions an hour after the upgrade: until then binaries of the release before may still decide.';
INSERT INTO attestation_start (attested_from)
SELECT CASE WHEN EXISTS (SELECT FROM hitl_decisions) THEN now() + interval '1 hour' ELSE now() END;
GRANT SELECT ON attestation_start TO relaytrace_app;

-- The bytes of an entry are those of its row: nobody writes a row of one kind whose bytes say another.
ALTER TABLE approval_chain ADD CONSTRAINT approval_chain_entry_is_its_rows CHECK (
    starts_with(
        convert_from(substring(entry FOR 120), 'UTF8'),
        '{"request_id":"' || request_id || '","seq":' || seq || ',"kind":"' || kind || '",'
    )
) NOT VALID;
