/* relaytrace: take_up_again */
-- Tries again what a dead letter of the stream, the sweep or a channel is about: the event goes back into the outbox, the
-- item is no longer left out, the notification is due.
--
-- $1 now (null: the database's clock), $2 dead_letter_id, $3 the administrator's id, $4 tenant_id, $5 and $6 the
-- administrator's kind and name
WITH resolved AS (
    UPDATE dead_letters x
    SET resolved_at = at_or_now($1), resolution = 'retried', resolved_by = $3
    WHERE x.dead_letter_id = $2 AND x.kind IN ('event', 'sweep', 'notification') AND x.resolved_at IS NULL
    RETURNING x.dead_letter_id, x.kind, x.request_id, x.agent_id, x.first_at, x.resolved_at, x.sweep_part, x.event_seq,
        x.event_kind, x.event_payload, x.listener_id, x.notice
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT $4::text, resolved_at, $5::text, $3, $6::text, 'dead_letter.retried', dead_letter_id::text,
        jsonb_build_object('kind', kind, 'request_id', request_id)
    FROM resolved
), cleared AS (
    DELETE FROM sweep_failures f USING resolved x
    WHERE x.kind = 'sweep' AND f.part = x.sweep_part AND f.request_id = x.request_id
), queued AS (
    INSERT INTO notifications (listener_id, request_id, seq, notice, queued_at, due_at)
    SELECT listener_id, request_id, event_seq, notice, resolved_at, resolved_at
    FROM resolved WHERE kind = 'notification'
    ON CONFLICT (listener_id, request_id, seq) DO NOTHING
)
-- Who listens was told when it became a dead letter.
INSERT INTO outbox (request_id, seq, kind, agent_id, payload, created_at, claimed_until, told)
SELECT request_id, event_seq, event_kind, agent_id, event_payload, first_at, resolved_at, true
FROM resolved WHERE kind = 'event'
ON CONFLICT (request_id, seq) DO NOTHING
