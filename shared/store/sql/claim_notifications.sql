/* relaytrace: claim_notifications */
-- Takes what is due, of each listener at most so much: one that does not answer holds up no other. Listeners take turns, so
-- that neither do many.
--
-- $1 now (null: the database's clock), $2 at most so many, $3 of one listener at the most, $4 lease, in seconds,
-- $5 listeners that have enough under way, $6 the listener whose turn was last, $7 tenants that have enough under way
WITH RECURSIVE waiting AS (
    -- Those that something is queued for, one after the other by the index: from the one after the last on, then from the
    -- first up to it. Who listens and has nothing queued is not looked at.
    SELECT $6::uuid AS listener_id, false AS is_second_round
    UNION ALL
    SELECT next.listener_id, next.is_second_round
    FROM waiting w CROSS JOIN LATERAL (
        (
            SELECT n.listener_id, w.is_second_round, 1 AS place FROM notifications n
            WHERE n.listener_id > w.listener_id
                AND n.listener_id <= CASE WHEN w.is_second_round THEN $6 ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff' END
            ORDER BY n.listener_id LIMIT 1
        )
        UNION ALL
        SELECT '00000000-0000-0000-0000-000000000000', true, 2 WHERE NOT w.is_second_round
        ORDER BY place LIMIT 1
    ) next
), due AS (
    SELECT n.listener_id, n.request_id, n.seq
    FROM waiting w
    CROSS JOIN LATERAL (
        SELECT n.listener_id, n.request_id, n.seq, n.due_at FROM notifications n
        WHERE n.listener_id = w.listener_id AND n.due_at <= at_or_now($1)
        ORDER BY n.due_at LIMIT $3
        FOR NO KEY UPDATE SKIP LOCKED
    ) n
    WHERE (w.is_second_round OR w.listener_id > $6) AND w.listener_id <> ALL ($5::uuid[])
        AND (SELECT l.tenant_id FROM listeners l WHERE l.listener_id = w.listener_id) <> ALL ($7::text[])
    LIMIT $2
), claimed AS (
    UPDATE notifications n
    SET attempts = n.attempts + 1, due_at = at_or_now($1) + make_interval(secs => $4::double precision)
    FROM due d
    WHERE n.listener_id = d.listener_id AND n.request_id = d.request_id AND n.seq = d.seq
    RETURNING n.*
)
SELECT c.listener_id, c.request_id AS "request_id: RequestId", c.seq, c.notice, c.attempts, c.queued_at,
    l.tenant_id AS "tenant_id: TenantId", l.channel_id AS "channel_id: ChannelId",
    l.agent_id AS "listening_agent?: AgentId", l.key_id AS "instance_id?: KeyId", l.kind AS listener_kind,
    l.config::text AS "config!", l.sealed,
    l.removed_at IS NOT NULL OR l.event_kinds = '{}' OR EXISTS (
        SELECT FROM agent_keys k WHERE k.key_id = l.key_id AND k.revoked_at IS NOT NULL
    ) AS "is_off!",
    r.agent_id AS "agent_id: AgentId", r.client_request_key AS "client_request_key: ClientRequestKey", r.title,
    r.priority AS "priority: Priority", r.action_type AS "action_type: ActionType", r.status AS "status: Status",
    r.respond_by, h.at AS "at!", d.outcome AS "outcome?: Outcome", d.cause AS "cause?: Cause"
FROM claimed c
JOIN listeners l USING (listener_id)
JOIN hitl_requests r ON r.request_id = c.request_id
JOIN approval_chain h ON h.request_id = c.request_id AND h.seq = c.seq
LEFT JOIN hitl_decisions d ON d.request_id = c.request_id
