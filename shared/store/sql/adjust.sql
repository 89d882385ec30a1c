/* relaytrace: adjust */
-- Gives pending requests more time or another priority: by an administrator, or by the policy that raises what nobody
-- answered. A row that is not returned was not adjusted; a second statement finds out why.
--
-- $1 now (null: the database's clock)
-- Arrays, one element for each request: $2 request_id, $3 tenant_id (of an administrator), $4 kind (extended or
-- reprioritised), $5 new priority (null: stays), $6 new respond_by (null: stays), $7 policy_id (null: no policy does it),
-- $8 new escalate_at (of a policy), $9 actor_kind, $10 actor_id, $11 actor_name (null: none), $12 reason (null: none)
WITH target AS (
    -- Locked in key order; everything that decides comes from the locked row.
    SELECT r.request_id, r.agent_id, r.priority, r.respond_by, r.changed_at, r.chain_length, r.chain_head, r.counted,
        i.kind, i.policy_id, i.actor_kind, i.actor_id, i.actor_name, i.reason,
        COALESCE(i.priority, r.priority) AS new_priority, COALESCE(i.respond_by, r.respond_by) AS new_respond_by,
        -- What a policy would have approved by itself at another priority is rejected.
        CASE WHEN i.policy_id IS NULL AND i.priority IS NOT NULL AND r.on_timeout = 'auto_approve'
            THEN 'auto_reject' ELSE r.on_timeout END AS new_on_timeout,
        CASE WHEN i.policy_id IS NULL THEN r.escalate_at ELSE i.escalate_at END AS new_escalate_at,
        CASE WHEN i.policy_id IS NULL THEN r.escalated_at END AS new_escalated_at,
        CASE WHEN i.kind = 'extended' THEN r.respond_by ELSE 'infinity' END AS not_after
    FROM hitl_requests r
    JOIN UNNEST(
        $2::uuid[], $3::text[], $4::text[], $5::smallint[], $6::timestamptz[], $7::uuid[], $8::timestamptz[],
        $9::text[], $10::text[], $11::text[], $12::text[]
    ) AS i (
        request_id, tenant_id, kind, priority, respond_by, policy_id, escalate_at, actor_kind, actor_id, actor_name,
        reason
    ) ON i.request_id = r.request_id
    -- In these words no plan looks through what is pending.
    WHERE r.status <> 'decided' AND r.tenant_id = COALESCE(i.tenant_id, r.tenant_id)
        AND CASE
            -- The sweep has looked without a lock: it is still due, and one step below.
            WHEN i.policy_id IS NOT NULL THEN r.priority = i.priority + 1 AND r.respond_by <= at_or_now($1)
                AND may_be_raised(r.on_timeout, r.priority, r.requested_respond_by, at_or_now($1))
            WHEN i.kind = 'extended' THEN r.respond_by < i.respond_by
            ELSE r.priority <> i.priority
        END
    ORDER BY r.request_id
    FOR NO KEY UPDATE OF r
), timed AS MATERIALIZED (
    SELECT t.*, t.chain_length + 1 AS seq, GREATEST(t.changed_at, at_or_clock($1)) AS at, at_or_clock($1) AS moment FROM target t
), entries AS MATERIALIZED (
    SELECT t.*, chain_entry(t.request_id, t.seq, t.kind, t.at, chain_actor(t.actor_kind, t.actor_id, t.actor_name),
        '"priority":"P' || t.new_priority || '","respond_by":"' || rfc3339(t.new_respond_by)
        || '","previous":{"priority":"P' || t.priority || '","respond_by":"' || rfc3339(t.respond_by)
        || '"},"reason":' || json_text(t.reason)
        || COALESCE(',"policy_id":"' || t.policy_id::text || '"', '')) AS entry
    FROM timed t WHERE t.moment < t.not_after
), linked AS MATERIALIZED (
    SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
), adjusted AS (
    UPDATE hitl_requests r
    SET priority = l.new_priority, respond_by = l.new_respond_by, on_timeout = l.new_on_timeout,
        escalate_at = l.new_escalate_at, escalated_at = l.new_escalated_at,
        changed_at = l.at, chain_length = l.seq, chain_head = l.hash
    FROM linked l WHERE r.request_id = l.request_id AND r.status <> 'decided'
    RETURNING l.*
), caps AS (
    -- Locked before anything is computed from it: a CHECK is evaluated on the counts that this statement saw first,
    -- also where another one changes them meanwhile.
    SELECT c.agent_id, c.pending_p1 + n.more AS pending_p1
    FROM (
        SELECT agent_id, sum((new_priority = 1)::integer - (priority = 1)::integer)::integer AS more
        FROM adjusted WHERE counted AND new_priority <> priority GROUP BY agent_id
    ) n
    JOIN agent_caps c ON c.agent_id = n.agent_id
    ORDER BY c.agent_id
    FOR NO KEY UPDATE OF c
), recounted AS (
    -- A cap refuses what an agent asks, not what becomes of it.
    UPDATE agent_caps c SET pending_p1 = l.pending_p1 FROM caps l WHERE c.agent_id = l.agent_id
)
INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
SELECT request_id, seq, kind, at, entry, chain_head, hash FROM adjusted
RETURNING request_id
