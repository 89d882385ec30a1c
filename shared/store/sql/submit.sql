/* relaytrace: submit */
-- Stores submissions as new requests: each whole, or not at all. A row that is not returned inserted nothing: its key
-- stands for a request already, its key or agent is not active, or a policy refuses it; a second statement finds out.
--
-- $1 now (null: the database's clock), $15 how long a key is kept at the least, in seconds
-- Arrays, one element for each submission: $2 request_id, $3 agent_id, $4 key_id, $5 client_request_key,
-- $6 fingerprint, $7 priority, $8 title, $9 action_type, $10 action_digest, $11 requested_respond_by (null: none),
-- $12 envelope, $13 resume (null: none), $14 traceparent (null: none),
-- $16 answers (names with commas between; null: the default), $17 group, $18 on_behalf_of (in lower case),
-- $19 permit_seconds (null: none),
-- $20 how long an approval may be used where no policy says, in seconds (not an array),
-- $21 protocol of a bridge (null: none), $22 seconds after which its agent wants no answer any more (null: the policy's),
-- never refused,
-- $23 what rules say (null: nothing of any), a JSON object by request_id (`judging.rs`); not an array, as few have rules
WITH timed AS MATERIALIZED (
    SELECT i.request_id, i.agent_id, i.key_id, i.client_request_key, i.fingerprint, i.priority, i.title, i.action_type,
        i.action_digest, i.envelope, i.resume, i.traceparent, i.answers, i.group_key, i.on_behalf_of, i.protocol, i.rule,
        COALESCE(
            i.requested_respond_by, at_or_now($1) + make_interval(secs => i.respond_within_seconds)
        ) AS requested_respond_by,
        k.tenant_id, at_or_now($1) AS created_at,
        p.policy_id, COALESCE(i.rule ->> 'on_timeout', p.on_timeout) AS policy_on_timeout,
        COALESCE((i.rule ->> 'escalate_after_percent')::smallint, p.escalate_after_percent) AS escalate_after_percent,
        p.lowest_priority,
        -- Envelope and rule may shorten it, never lengthen it. Null where none says: the deployment's at the decision.
        CASE WHEN COALESCE(i.asked_permit_seconds, (i.rule ->> 'permit_seconds')::integer) IS NULL THEN p.permit_seconds
            ELSE LEAST(i.asked_permit_seconds, (i.rule ->> 'permit_seconds')::integer,
                COALESCE(p.permit_seconds, $20::double precision))::integer
        END AS permit_seconds,
        CASE WHEN i.rule ? 'consume' THEN true ELSE p.consume_required END AS consume_required,
        -- Of a rule that failed only what is stricter counts.
        COALESCE(GREATEST(
            (i.rule ->> 'approvals')::smallint, CASE WHEN i.rule ? 'failed' THEN p.approvals END
        ), p.approvals) AS approvals,
        at_or_now($1) + make_interval(
            secs => COALESCE((i.rule ->> 'respond_within_seconds')::integer, p.respond_within_seconds)
        ) AS latest
    FROM (
        SELECT i.*, CASE WHEN $23::jsonb IS NOT NULL THEN $23::jsonb -> i.request_id::text END AS rule FROM (
            -- In step, and without storing them, as UNNEST over all in FROM would.
            SELECT UNNEST($2::uuid[]) AS request_id, UNNEST($3::text[]) AS agent_id, UNNEST($4::text[]) AS key_id,
                UNNEST($5::text[]) AS client_request_key, UNNEST($6::bytea[]) AS fingerprint,
                UNNEST($7::smallint[]) AS priority, UNNEST($8::text[]) AS title, UNNEST($9::text[]) AS action_type,
                UNNEST($10::bytea[]) AS action_digest, UNNEST($11::timestamptz[]) AS requested_respond_by,
                UNNEST($12::bytea[]) AS envelope, UNNEST($13::bytea[]) AS resume, UNNEST($14::text[]) AS traceparent,
                UNNEST($16::text[]) AS answers, UNNEST($17::text[]) AS group_key, UNNEST($18::text[]) AS on_behalf_of,
                UNNEST($19::integer[]) AS asked_permit_seconds, UNNEST($21::text[]) AS protocol,
                UNNEST($22::bigint[]) AS respond_within_seconds
        ) i
        OFFSET 0
    ) i
    -- By the version of the rules that stands, or not at all: who was behind starts again.
    JOIN active_keys k ON k.key_id = i.key_id AND k.agent_id = i.agent_id
        AND (k.rules_version IS NOT DISTINCT FROM (i.rule ->> 'version')::integer OR i.rule ? 'is_last')
    CROSS JOIN LATERAL terms_of_asking(k.tenant_id, i.agent_id, i.action_type, i.priority) p
), accepted AS (
    -- A second submission of the key waits here for the first one's commit, and then finds no row to take: the
    -- statement has inserted nothing.
    INSERT INTO request_dedupe AS d (agent_id, client_request_key, fingerprint, request_id, expires_at)
    SELECT agent_id, client_request_key, fingerprint, request_id, created_at + make_interval(secs => $15::double precision)
    FROM timed
    WHERE (
            requested_respond_by IS NULL
            OR (requested_respond_by > created_at AND (requested_respond_by <= latest OR protocol IS NOT NULL))
        )
        AND (lowest_priority IS NULL OR COALESCE((rule ->> 'asked_priority')::smallint, priority) <= lowest_priority)
    ORDER BY agent_id, client_request_key
    ON CONFLICT (agent_id, client_request_key) DO UPDATE
    SET fingerprint = excluded.fingerprint, request_id = excluded.request_id, expires_at = excluded.expires_at
    -- Free after its time, but not while its request is pending, nor for 24 h from the decision.
    WHERE d.expires_at <= at_or_now($1)
        AND EXISTS (
            SELECT FROM hitl_decisions h
            WHERE h.request_id = d.request_id AND h.decided_at <= at_or_now($1) - interval '24 hours'
        )
    RETURNING d.request_id
), events AS MATERIALIZED (
    -- One subquery within the other, as in decide.sql.
    SELECT l.*, handoff_event('requested', l.request_id, 1, l.created_at, l.agent_id, l.client_request_key,
        l.priority, l.action_digest, l.hash, NULL, NULL, l.tenant_id) AS payload
    FROM (
        SELECT e.*, sha256(e.prev_hash || e.entry) AS hash FROM (
            SELECT t.*, chain_genesis(t.request_id) AS prev_hash,
                chain_entry(t.request_id, 1, 'submitted', t.created_at, chain_actor('agent', t.agent_id, NULL),
                    format('"client_request_key":"%s","action_type":"%s","envelope_sha256":"sha256:%s"'
                        ',"action_digest":"sha256:%s","priority":"P%s","respond_by":"%s","policy_id":"%s"'
                        ',"on_timeout":"%s"%s%s%s%s%s,"key_id":"%s"',
                        t.client_request_key, t.action_type, encode(sha256(t.envelope), 'hex'),
                        encode(t.action_digest, 'hex'), t.priority, rfc3339(t.respond_by), t.policy_id, t.on_timeout,
                        ',"permit_seconds":' || t.permit_seconds,
                        CASE WHEN t.consume_required THEN ',"consume":"required"' END,
                        CASE WHEN t.approvals > 1 THEN ',"approvals":' || t.approvals END,
                        ',"protocol":"' || t.protocol || '"', ',' || (t.rule ->> 'entry'), t.key_id)) AS entry
            FROM (
                SELECT t.*, LEAST(t.latest, t.requested_respond_by) AS respond_by,
                    -- Nothing is approved by a timeout that had less than the policy's full time, or whose agent takes no
                    -- approval, or where a rule asks for more than anybody's yes.
                    CASE WHEN t.policy_on_timeout = 'auto_approve'
                        AND (t.requested_respond_by < t.latest OR t.answers NOT LIKE '%approve%'
                            OR t.rule ?| '{is_strict,consume}' OR t.approvals > 1)
                        THEN 'auto_reject' ELSE t.policy_on_timeout END AS on_timeout
                FROM timed t JOIN accepted USING (request_id)
            ) t
            OFFSET 0
        ) e
        OFFSET 0
    ) l
), requests AS (
    INSERT INTO hitl_requests (
        request_id, tenant_id, agent_id, client_request_key, priority, title, action_type, action_digest, created_at,
        respond_by, requested_respond_by, on_timeout, escalate_at, changed_at, chain_length, chain_head, counted,
        permit_seconds, consume_required, approvals_required, answers, group_key, on_behalf_of, protocol,
        rules_version, rule_name, rule_terms, assigned_groups, assigned_operators
    )
    SELECT request_id, tenant_id, agent_id, client_request_key, priority, title, action_type, action_digest,
        created_at, respond_by, requested_respond_by, on_timeout,
        created_at + (respond_by - created_at) * escalate_after_percent / 100, created_at, 1, hash,
        -- What is over a cap refuses the whole statement. An agent without a cap is not locked.
        COALESCE(agent_id = ANY ((
            SELECT count_pending(array_agg(e.agent_id), array_agg(e.priority)) FROM events e
            WHERE EXISTS (
                SELECT FROM agent_caps c
                WHERE c.agent_id = e.agent_id AND (c.max_pending IS NOT NULL OR c.max_pending_p1 IS NOT NULL)
            )
        )::text[]), false), permit_seconds, consume_required,
        approvals, string_to_array(answers, ','), group_key, on_behalf_of, protocol,
        (rule ->> 'version')::integer, rule ->> 'name', rule -> 'terms', (rule ->> 'groups')::text[],
        (rule ->> 'operators')::text[]
    FROM events
), groups AS (
    INSERT INTO request_groups (agent_id, group_key, request_id)
    SELECT agent_id, group_key, request_id FROM events WHERE group_key IS NOT NULL
), envelopes AS (
    INSERT INTO request_envelopes (request_id, envelope, resume)
    SELECT request_id, envelope, resume FROM events
), chain AS (
    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
    SELECT request_id, 1, 'submitted', created_at, entry, prev_hash, hash FROM events
), announced AS (
    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
    SELECT request_id, 1, 'requested', agent_id, payload, traceparent, created_at, created_at + interval '10 seconds'
    FROM events
)
SELECT request_id AS "request_id!: RequestId", created_at AS "created_at!", respond_by AS "respond_by!",
    approvals, payload AS "payload!"
FROM events
