/* relaytrace: settle_notifications */
-- Notes what became of tries: what was told is off the queue; what was not is due again after a pause, or a dead letter.
--
-- $1 now (null: the database's clock)
-- Arrays, one element for each try: $2 listener, $3 request_id, $4 seq, $5 attempts (a later try is not this one's),
-- $6 pause in seconds (null: it is over), $7 cause of a dead letter (null: none)
WITH tried AS (
    SELECT n.*, p.pause, p.cause
    FROM UNNEST($2::uuid[], $3::uuid[], $4::integer[], $5::integer[], $6::double precision[], $7::text[])
        AS p (listener_id, request_id, seq, attempts, pause, cause)
    JOIN notifications n ON n.listener_id = p.listener_id AND n.request_id = p.request_id AND n.seq = p.seq
        AND n.attempts = p.attempts
    ORDER BY n.listener_id, n.request_id, n.seq
    FOR NO KEY UPDATE OF n
), delayed AS (
    UPDATE notifications n SET due_at = at_or_now($1) + make_interval(secs => t.pause)
    FROM tried t
    WHERE n.listener_id = t.listener_id AND n.request_id = t.request_id AND n.seq = t.seq AND t.pause IS NOT NULL
), over AS (
    DELETE FROM notifications n USING tried t
    WHERE n.listener_id = t.listener_id AND n.request_id = t.request_id AND n.seq = t.seq AND t.pause IS NULL
)
INSERT INTO dead_letters (dead_letter_id, kind, request_id, tenant_id, agent_id, cause, attempts, error_message,
    first_at, last_at, event_seq, listener_id, channel_id, notice)
SELECT gen_random_uuid(), 'notification', t.request_id, l.tenant_id, r.agent_id, t.cause, t.attempts,
    'the receiver did not take it', t.queued_at, GREATEST(t.queued_at, at_or_now($1)), t.seq, t.listener_id,
    l.channel_id, t.notice
FROM tried t JOIN listeners l USING (listener_id) JOIN hitl_requests r ON r.request_id = t.request_id
WHERE t.cause IS NOT NULL
