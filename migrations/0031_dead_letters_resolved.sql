-- What resolves the dead letter of a delivery, in one place: an acknowledgement, a use of the approval, each redelivery.
SET LOCAL lock_timeout = '2s';

CREATE FUNCTION without_dead_letter(
    request uuid, at timestamptz, how text, who text, why text
) RETURNS uuid LANGUAGE sql VOLATILE
BEGIN ATOMIC
    UPDATE dead_letters x SET resolved_at = at, resolution = how, resolved_by = who, resolve_reason = why
    WHERE x.request_id = request AND x.kind = 'delivery' AND x.resolved_at IS NULL;
    SELECT NULL::uuid;
END;
COMMENT ON FUNCTION without_dead_letter IS 'Resolves the open dead letter of a delivery whose row the statement has locked, and returns what then names it: null. Volatile, and so with a snapshot of its own: it sees a dead letter that was committed while the statement waited for its locks.';
