/* relaytrace: note_sweep_failure */
-- Notes that an item of a sweep failed; at the last failure it becomes a dead letter.
--
-- $1 now (null: the database's clock), $2 part, $3 request_id, $4 SQLSTATE (null: none), $5 message,
-- $6 failures that make a dead letter, $7 pause after a failure, in seconds
WITH timed AS (
    SELECT at_or_now($1) AS now
), forgotten AS (
    -- What has long since been done in a batch.
    DELETE FROM sweep_failures f USING timed t
    WHERE f.last_at < t.now - interval '1 day' AND f.retry_at < t.now
        AND (f.part, f.request_id) <> ($2, $3)
), failed AS (
    INSERT INTO sweep_failures AS f (
        part, request_id, attempts, error_code, error_message, first_at, last_at, retry_at
    )
    SELECT $2, $3, 1, $4, $5, t.now, t.now, t.now + make_interval(secs => $7::double precision) FROM timed t
    ON CONFLICT ON CONSTRAINT sweep_failures_pkey DO UPDATE
    SET attempts = f.attempts + 1, error_code = excluded.error_code,
        error_message = excluded.error_message, last_at = excluded.last_at,
        retry_at = CASE WHEN f.attempts + 1 >= $6::integer THEN 'infinity'
            ELSE excluded.last_at + (f.attempts + 1) * make_interval(secs => $7) END
    -- Another sweep that met it at the same time has counted it.
    WHERE f.retry_at <= excluded.last_at
    RETURNING f.part, f.request_id, f.attempts, f.error_code, f.error_message, f.first_at, f.last_at, f.retry_at
), set_aside AS (
    INSERT INTO dead_letters (dead_letter_id, kind, request_id, tenant_id, agent_id, cause, attempts, error_code,
        error_message, first_at, last_at, sweep_part)
    SELECT gen_random_uuid(), 'sweep', f.request_id, COALESCE(r.tenant_id, 'default'), r.agent_id, 'sweep_failed', f.attempts,
        f.error_code, f.error_message, f.first_at, f.last_at, f.part
    FROM failed f LEFT JOIN hitl_requests r USING (request_id)
    WHERE f.retry_at = 'infinity'
    RETURNING request_id
)
SELECT EXISTS (SELECT FROM set_aside) AS "set_aside!"
