-- What the statements of each handoff share, made cheaper. Their cost is to a large part what a plan's parts cost to set up in
-- each call, used or not: each operator of an expression, each table, each index. So a text is put together by one call of
-- format(), and what few rows need stands in functions, which cost nothing where they are not called.
SET LOCAL lock_timeout = '2s';

-- ---------------------------------------------------------------- the bytes of entries and events
-- To format() a null is an empty text. No null comes here but of what may be absent.
CREATE OR REPLACE FUNCTION chain_actor(kind text, id text, name text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN format('{"kind":"%s","id":%s%s}', kind, json_text(id), ',"name":' || to_json(name)::text);

-- Few act for somebody else: not inlined.
CREATE OR REPLACE FUNCTION acting_actor(kind text, id text, name text, person jsonb) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN left(chain_actor(kind, id, name), -1)
        || ',"for":{"id":' || json_text(person ->> 'for') || ',"name":' || json_text(person ->> 'for_name') || '}}';
END
$$;

CREATE OR REPLACE FUNCTION chain_entry(
    request_id uuid, seq integer, kind text, at timestamptz, actor text, details text
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN convert_to(
        format('{"request_id":"%s","seq":%s,"kind":"%s","at":"%s","actor":%s%s%s}', request_id, seq, kind, rfc3339(at), actor,
            ',' || NULLIF(details, ''), CASE WHEN epoch_of(at) > 1 THEN ',"epoch":' || epoch_of(at) END), 'UTF8');

CREATE OR REPLACE FUNCTION handoff_event(
    kind text, request_id uuid, seq integer, at timestamptz, agent_id text, client_request_key text,
    priority smallint, action_digest bytea, head bytea, outcome text, cause text, tenant_id text
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN convert_to(
        format('{"specversion":"1.0","id":"%1$s/%2$s%3$s","source":"/relaytrace","type":"handoff.%4$s","subject":"%1$s"'
            ',"time":"%5$s","datacontenttype":"application/json","sequence":%2$s,"data":{"agent_id":"%6$s"'
            ',"client_request_key":"%7$s","priority":"P%8$s","action_digest":"sha256:%9$s"'
            ',"chain":{"length":%2$s,"head":"sha256:%10$s"}%11$s%12$s}}',
            request_id, seq, CASE WHEN epoch_of(at) > 1 THEN '/' || epoch_of(at) END, kind, rfc3339(at), agent_id,
            client_request_key, priority, encode(action_digest, 'hex'), encode(head, 'hex'),
            ',"outcome":"' || outcome || '","cause":"' || cause || '"',
            CASE WHEN tenant_id <> 'default' THEN ',"tenant":"' || tenant_id || '"' END), 'UTF8');

-- ---------------------------------------------------------------- decisions
CREATE FUNCTION may_be_decided(
    r hitl_requests, cause text, outcome text, answer text, actor_id text, key_id text, tenant_id text, person text,
    freeze_id text, now timestamptz, moment timestamptz
) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    CASE cause
        WHEN 'agent' THEN
            RETURN r.agent_id = actor_id AND EXISTS (
                SELECT FROM active_keys k WHERE k.key_id = may_be_decided.key_id AND k.agent_id = actor_id
            );
        WHEN 'timeout' THEN
            -- The sweep has looked without a lock: it is still due, and its policy still says so.
            RETURN r.respond_by <= now
                AND NOT may_be_raised(r.on_timeout, r.priority, r.requested_respond_by, now)
                AND (outcome = 'rejected' OR (r.on_timeout = 'auto_approve' AND r.priority > 1
                    AND r.consume_required IS NOT TRUE AND COALESCE(r.approvals_required, 1) = 1
                    AND r.assigned_groups IS NULL AND r.assigned_operators IS NULL));
        WHEN 'operator' THEN
            RETURN r.tenant_id = may_be_decided.tenant_id
                AND answer = ANY (COALESCE(r.answers, ARRAY['approve', 'reject']))
                -- One approval decides, or the last of several, as asked and by somebody who has not voted: the others are
                -- for vote.sql.
                AND (r.approvals_required IS NULL OR r.approvals_required = 1 OR outcome = 'rejected'
                    OR answer = 'approve' AND r.approvals_given = r.approvals_required - 1
                        AND actor_id <> ALL (r.voters)
                        AND (person NOT LIKE '{"for":%' OR person::jsonb ->> 'for' <> ALL (r.voters)))
                -- Nobody approves what is done for them.
                AND (r.on_behalf_of IS NULL OR outcome <> 'approved'
                    OR NOT is_own_request(r.tenant_id, r.on_behalf_of, r.rule_terms, person::jsonb))
                AND ((r.assigned_groups IS NULL AND r.assigned_operators IS NULL AND person NOT LIKE '{"for":%')
                    OR may_decide(r.tenant_id, r.assigned_groups, r.assigned_operators, person::jsonb, moment));
        ELSE
            RETURN r.tenant_id = may_be_decided.tenant_id AND (freeze_id IS NULL OR EXISTS (
                -- The stop is in force, and covers it.
                SELECT FROM freezes f
                WHERE f.tenant_id = r.tenant_id AND f.freeze_id = may_be_decided.freeze_id AND f.mode = 'stop'
                    AND f.ends_at > now
                    AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
                    AND (f.action_type IS NULL OR f.action_type = r.action_type)
            ));
    END CASE;
END
$$;
COMMENT ON FUNCTION may_be_decided IS 'Whether a pending request may be decided so, by this decider, at this moment: all that decide.sql asks of a decision that is not an operator''s plain answer.';

CREATE FUNCTION written_digests(asked bytea, edited bytea, response bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN COALESCE(',"requested_action_digest":"' || digest_text(asked) || '","edited":' || (edited <> asked)::text, '')
        || COALESCE(',"response_digest":"' || digest_text(response) || '"', '');
END
$$;
COMMENT ON FUNCTION written_digests IS 'What a decided entry says of what an operator wrote, with a comma before it: members of an entry.';

CREATE FUNCTION votes_with(
    votes jsonb, outcome text, seq integer, at timestamptz, reason text, actor_kind text, actor_id text, actor_name text,
    acting jsonb
) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN ',"votes":' || (votes || CASE WHEN outcome <> 'approved' THEN '[]'
        ELSE jsonb_build_object('seq', seq, 'at', rfc3339(at), 'reason', reason, 'actor', CASE
            WHEN acting IS NULL THEN chain_actor(actor_kind, actor_id, actor_name)
            ELSE acting_actor(actor_kind, actor_id, actor_name, acting) END::jsonb)
        END)::text;
END
$$;
COMMENT ON FUNCTION votes_with IS 'The member votes of a decided entry, with a comma before it: those before it as the row has them; an approval is itself the last.';

CREATE FUNCTION uncount(requests uuid[]) RETURNS boolean LANGUAGE plpgsql STRICT AS $$
BEGIN
    -- In key order, and before the counts are changed.
    PERFORM FROM agent_caps c
    WHERE c.agent_id IN (SELECT r.agent_id FROM hitl_requests r WHERE r.request_id = ANY (requests))
    ORDER BY c.agent_id
    FOR NO KEY UPDATE;
    UPDATE agent_caps c SET pending = c.pending - n.pending, pending_p1 = c.pending_p1 - n.pending_p1
    FROM (
        SELECT r.agent_id, count(*)::integer AS pending, (count(*) FILTER (WHERE r.priority = 1))::integer AS pending_p1
        FROM hitl_requests r WHERE r.request_id = ANY (requests)
        GROUP BY r.agent_id
    ) n
    WHERE c.agent_id = n.agent_id;
    RETURN true;
END
$$;
COMMENT ON FUNCTION uncount IS 'Takes requests, whose rows the statement has locked, off their agents'' counts. Null: none.';

-- ---------------------------------------------------------------- acknowledgements
CREATE FUNCTION was_stopped(request uuid) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM hitl_requests r
        JOIN hitl_decisions h USING (request_id)
        JOIN freezes f ON f.tenant_id = r.tenant_id AND f.ends_at > h.decided_at AND f.mode = 'stop'
            AND (f.agent_id IS NULL OR f.agent_id = r.agent_id)
            AND (f.action_type IS NULL OR f.action_type = r.action_type)
        WHERE r.request_id = request
    );
END
$$;
COMMENT ON FUNCTION was_stopped IS 'Whether a stop has revoked the approval of this request.';

CREATE FUNCTION set_aside(
    request uuid, tenant text, agent text, cause text, attempts integer, code text, message text, first_at timestamptz,
    at timestamptz
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid;
BEGIN
    -- No open one is expected here. Where a release before has left one, it is this delivery's.
    INSERT INTO dead_letters AS x (
        dead_letter_id, kind, request_id, tenant_id, agent_id, cause, attempts, error_code, error_message, first_at,
        last_at
    )
    VALUES (gen_random_uuid(), 'delivery', request, tenant, agent, set_aside.cause, set_aside.attempts, code, message,
        LEAST(set_aside.first_at, at), at)
    ON CONFLICT (request_id) WHERE kind = 'delivery' AND resolved_at IS NULL DO UPDATE
    SET cause = excluded.cause, attempts = excluded.attempts, error_code = excluded.error_code,
        error_message = excluded.error_message, last_at = excluded.last_at
    RETURNING x.dead_letter_id INTO id;
    RETURN id;
END
$$;
COMMENT ON FUNCTION set_aside IS 'Makes the dead letter of a delivery whose row the statement has locked, and returns what names it.';

-- ---------------------------------------------------------------- submissions
CREATE FUNCTION count_pending(agents text[], priorities smallint[]) RETURNS text[] LANGUAGE plpgsql STRICT AS $$
DECLARE
    capped text[];
BEGIN
    -- In key order, and before the counts are changed.
    PERFORM FROM agent_caps c WHERE c.agent_id = ANY (agents) ORDER BY c.agent_id FOR NO KEY UPDATE;
    WITH counted AS (
        UPDATE agent_caps c
        SET pending = within_cap(c.pending + n.pending, c.max_pending, 'max_pending'),
            pending_p1 = CASE WHEN n.pending_p1 = 0 THEN c.pending_p1
                ELSE within_cap(c.pending_p1 + n.pending_p1, c.max_pending_p1, 'max_pending_p1') END
        FROM (
            SELECT agent_id, count(*)::integer AS pending, (count(*) FILTER (WHERE priority = 1))::integer AS pending_p1
            FROM unnest(agents, priorities) AS submitted (agent_id, priority)
            GROUP BY agent_id
        ) n
        WHERE c.agent_id = n.agent_id AND (c.max_pending IS NOT NULL OR c.max_pending_p1 IS NOT NULL)
        RETURNING c.agent_id
    )
    SELECT array_agg(agent_id) INTO capped FROM counted;
    RETURN capped;
END
$$;
COMMENT ON FUNCTION count_pending IS 'Adds submissions to their agents'' counts; the agents that have a cap. The arrays have an element for each submission. Over a cap: refused.';

-- ---------------------------------------------------------------- invariants
-- As before, but for the key: Postgres takes longer for a bounded repetition in a pattern than for all else in the function.
CREATE OR REPLACE FUNCTION hitl_requests_is_sound(r hitl_requests) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    broken constant text := CASE
        WHEN r.status NOT IN ('pending', 'decided')
            THEN 'hitl_requests_status_known'
        WHEN r.priority NOT BETWEEN 1 AND 3
            THEN 'hitl_requests_priority_known'
        WHEN length(r.client_request_key) NOT BETWEEN 1 AND 128 OR r.client_request_key !~ '^[A-Za-z0-9._:-]*$'
            THEN 'hitl_requests_client_request_key_well_formed'
        WHEN octet_length(r.action_digest) <> 32 OR octet_length(r.chain_head) <> 32
            THEN 'hitl_requests_digests_are_sha256'
        WHEN r.respond_by <= r.created_at
            THEN 'hitl_requests_respond_by_after_creation'
        WHEN NOT r.answers <@ ARRAY['approve', 'reject', 'edit', 'respond']
            THEN 'hitl_requests_answers_known'
        WHEN r.approvals_required NOT BETWEEN 1 AND 10 OR r.approvals_given < 0
            THEN 'hitl_requests_approvals_possible'
        WHEN r.permit_seconds NOT BETWEEN 10 AND 86400
            THEN 'hitl_requests_permit_bounded'
        WHEN r.execution NOT IN ('consumed', 'succeeded', 'failed', 'unknown')
            THEN 'hitl_requests_execution_known'
        WHEN num_nulls(r.execution, r.consumed_at, r.consumed_by, r.consume_key) NOT IN (0, 4)
            THEN 'hitl_requests_consumed_whole'
    END;
BEGIN
    IF broken IS NULL THEN
        RETURN true;
    END IF;
    RAISE check_violation USING
        MESSAGE = format('new row for relation "hitl_requests" violates check constraint "%s"', broken),
        TABLE = 'hitl_requests', CONSTRAINT = broken;
END
$$;

CREATE OR REPLACE FUNCTION approval_chain_is_sound(r approval_chain) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    broken constant text := CASE
        WHEN r.kind NOT IN (
                'submitted', 'escalated', 'extended', 'reprioritised', 'decided', 'acknowledged', 'dead_lettered', 'replayed',
                'voted', 'rerouted', 'consumed', 'outcome'
            )
            THEN 'approval_chain_kind_known'
        WHEN r.seq < 1
            THEN 'approval_chain_starts_at_one'
        WHEN r.hash <> sha256(r.prev_hash || r.entry)
            THEN 'approval_chain_hashes_its_entry'
        WHEN NOT starts_with(
                convert_from(substring(r.entry FROM 1 FOR 120), 'UTF8'),
                format('{"request_id":"%s","seq":%s,"kind":"%s",', r.request_id, r.seq, r.kind)
            )
            THEN 'approval_chain_entry_is_its_rows'
    END;
BEGIN
    IF broken IS NULL THEN
        RETURN true;
    END IF;
    RAISE check_violation USING
        MESSAGE = format('new row for relation "approval_chain" violates check constraint "%s"', broken),
        TABLE = 'approval_chain', CONSTRAINT = broken;
END
$$;

-- These of deliveries, too: each was read anew in each statement that writes one.
CREATE FUNCTION deliveries_is_sound(r deliveries) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    broken constant text := CASE
        WHEN r.state NOT IN ('ready', 'leased', 'acknowledged', 'dead_lettered')
            THEN 'deliveries_state_known'
        WHEN r.result NOT IN ('accepted', 'retry', 'failed')
            THEN 'deliveries_result_known'
        WHEN r.state = 'leased' AND (r.delivery_id IS NULL OR r.lease_expires_at IS NULL OR r.attempt < 1)
            THEN 'deliveries_lease_is_whole'
        WHEN r.state = 'acknowledged' AND r.result <> 'accepted'
            THEN 'deliveries_acknowledged_means_accepted'
        WHEN r.attempt < 0
            THEN 'deliveries_attempt_not_negative'
    END;
BEGIN
    IF broken IS NULL THEN
        RETURN true;
    END IF;
    RAISE check_violation USING
        MESSAGE = format('new row for relation "deliveries" violates check constraint "%s"', broken),
        TABLE = 'deliveries', CONSTRAINT = broken;
END
$$;
COMMENT ON FUNCTION deliveries_is_sound IS 'A delivery as the schema admits it; else an error that names the invariant.';
ALTER TABLE deliveries
    DROP CONSTRAINT deliveries_state_known,
    DROP CONSTRAINT deliveries_result_known,
    DROP CONSTRAINT deliveries_lease_is_whole,
    DROP CONSTRAINT deliveries_acknowledged_means_accepted,
    DROP CONSTRAINT deliveries_attempt_not_negative,
    ADD CONSTRAINT deliveries_sound CHECK (deliveries_is_sound(deliveries)) NOT VALID;
