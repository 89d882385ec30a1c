-- The second half of 0011, which must not hold that one's lock: rows are read here while everybody works.
SET LOCAL lock_timeout = '2s';

ALTER TABLE request_envelopes VALIDATE CONSTRAINT request_envelopes_within_512_kib;
