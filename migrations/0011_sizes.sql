-- Bodies of up to 512 KiB (contract, "Limits"). The narrower limit goes with the step that adds the wider one, or that
-- would be for nothing; binaries of the release before still write at most 256 KiB, which satisfies both. 0012 looks at
-- the rows that are there.
SET LOCAL lock_timeout = '2s';

ALTER TABLE request_envelopes
    ADD CONSTRAINT request_envelopes_within_512_kib CHECK (octet_length(envelope) <= 524288) NOT VALID,
    DROP CONSTRAINT request_envelopes_within_256_kib;
COMMENT ON COLUMN hitl_requests.action_type IS
    'Type of the action asked for: [A-Za-z0-9_][A-Za-z0-9_./:%~-]{0,127}, checked where it is read.';
