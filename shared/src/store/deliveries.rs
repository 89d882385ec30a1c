//! Deliveries: leased by polls, acknowledged, retried, dead-lettered.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::chain::digest;
use super::pool::run;
use super::{Caller, OutboxEvent, Store};
use crate::domain::{AckResult, AgentId, ClientRequestKey, DeliveryState, Digest, RequestId};
use crate::error::{Error, Result};
use crate::failure::Failure;

/// A decision as it is handed to its agent.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The decided request.
    pub request_id: RequestId,
    /// The agent's own key of it.
    pub client_request_key: ClientRequestKey,
    /// Type of its action.
    pub action_type: String,
    /// The exact bytes of the `decided` entry.
    pub entry: Vec<u8>,
    /// Hash of the entry before.
    pub prev_hash: Digest,
    /// Hash of the `decided` entry.
    pub hash: Digest,
    /// The bytes of the envelope's `resume`.
    pub resume: Option<Vec<u8>>,
    /// How often it was handed out, this time included.
    pub attempt: i32,
    /// An administrator sent it out again.
    pub replayed: bool,
    /// The lease of a poll; `None` where it was only looked at.
    pub lease: Option<(Uuid, DateTime<Utc>)>,
}

/// What a poll asks for.
#[derive(Clone, Debug)]
pub struct LeaseOrder<'a> {
    /// Who polls.
    pub caller: &'a Caller,
    /// At most so many.
    pub limit: i64,
    /// Only these requests; `None`: any of the agent's.
    pub request_ids: Option<&'a [Uuid]>,
    /// Length of the lease, in seconds.
    pub lease_seconds: f64,
    /// After so many attempts the delivery is exhausted.
    pub max_attempts: i32,
    /// How long the poll would wait: what becomes visible later is not looked for.
    pub look_ahead: Duration,
}

/// What a poll got.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The database's time.
    pub polled_at: DateTime<Utc>,
    /// What was leased, in the order in which it became due.
    pub deliveries: Vec<Delivered>,
    /// More was due.
    pub has_more: bool,
    /// When the next delivery of this agent becomes due, if nothing was and it does so within the time looked ahead.
    pub next_visible_at: Option<DateTime<Utc>>,
}

/// What became of an acknowledgement.
#[derive(Clone, Debug)]
pub struct Acked {
    /// The delivery's state after it.
    pub state: DeliveryState,
    /// The acknowledged attempt.
    pub attempt: i32,
    /// What is to be told, if the state is a last one.
    pub event: Option<OutboxEvent>,
}

/// What an agent says of the latest attempt.
#[derive(Clone, Debug)]
pub struct Ack<'a> {
    /// Who says it.
    pub caller: &'a Caller,
    /// The decided request.
    pub request_id: RequestId,
    /// The latest attempt's id; anything else is stale.
    pub delivery_id: Option<Uuid>,
    /// What.
    pub result: AckResult,
    /// Its error's code.
    pub error_code: Option<&'a str>,
    /// Its error's message.
    pub error_message: Option<&'a str>,
    /// After so many attempts a retry is exhausted.
    pub max_attempts: i32,
    /// W3C trace context of the call.
    pub traceparent: Option<&'a str>,
}

impl Store {
    /// Leases what is due for a poll. Concurrent polls get disjoint sets.
    ///
    /// The lease is committed asynchronously: one that is lost in a crash is only a redelivery.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active.
    pub async fn lease(&self, order: &LeaseOrder<'_>) -> Result<Leased> {
        let agent_id = &order.caller.agent_id;
        let look = self.due.look(agent_id, self.clock().now());
        let rows = run!(self, connection => sqlx::query!(
                    r#"/* relaytrace: lease */
                    WITH caller AS MATERIALIZED (
                        SELECT a.agent_id, COALESCE($1::timestamptz, now()) AS now,
                            set_config('synchronous_commit', 'off', true)
                        FROM agent_keys k JOIN agents a ON a.agent_id = k.agent_id AND a.status = 'active'
                        WHERE k.key_id = $2 AND k.agent_id = $3 AND k.revoked_at IS NULL
                    ), due AS (
                        SELECT d.request_id, d.visible_at FROM deliveries d
                        WHERE EXISTS (SELECT FROM caller)
                            AND d.agent_id = $3 AND d.state IN ('ready', 'leased')
                            AND d.visible_at >= COALESCE($9::timestamptz, '-infinity')
                            AND d.visible_at <= COALESCE($1::timestamptz, now())
                            AND d.expires_at > COALESCE($1::timestamptz, now())
                            AND ($5::uuid[] IS NULL OR d.request_id = ANY ($5))
                        ORDER BY d.visible_at LIMIT $4::bigint
                        FOR NO KEY UPDATE SKIP LOCKED
                    ), sized AS MATERIALIZED (
                        -- An answer stays under 1 MB (contract): what would exceed it is for the next poll.
                        SELECT d.request_id, r.client_request_key, r.action_type, a.entry, a.prev_hash, a.hash, e.resume,
                            row_number() OVER (ORDER BY d.visible_at, d.request_id) AS number,
                            sum(2000 + 3 * octet_length(a.entry) + COALESCE(octet_length(e.resume), 0))
                                OVER (ORDER BY d.visible_at, d.request_id) AS size
                        FROM due d
                        JOIN hitl_requests r ON r.request_id = d.request_id
                        JOIN hitl_decisions h ON h.request_id = d.request_id
                        JOIN approval_chain a ON a.request_id = d.request_id AND a.seq = h.chain_seq
                        JOIN request_envelopes e ON e.request_id = d.request_id
                    ), leased AS (
                        UPDATE deliveries d
                        SET state = 'leased', attempt = d.attempt + 1, delivery_id = gen_random_uuid(), result = NULL,
                            lease_expires_at = c.now + make_interval(secs => $6::double precision),
                            visible_at = c.now + make_interval(secs => $6 + CASE
                                WHEN d.attempt + 1 >= $7::integer THEN 0
                                ELSE random() * LEAST($8::double precision, 2.0 ^ LEAST(d.attempt, 20))
                            END),
                            expires_at = CASE
                                WHEN d.attempt + 1 >= $7 THEN LEAST(d.expires_at, c.now + make_interval(secs => $6))
                                ELSE d.expires_at
                            END
                        FROM sized s, caller c
                        WHERE d.request_id = s.request_id AND s.number <= $4 AND (s.number = 1 OR s.size <= 900000)
                        RETURNING d.attempt, d.replayed, d.delivery_id, d.lease_expires_at, s.*
                    ), polled AS (
                        -- Looked at first: even a refused ON CONFLICT update locks the row and writes.
                        INSERT INTO agent_polls AS p (agent_id, last_polled_at)
                        SELECT c.agent_id, c.now FROM caller c
                        WHERE NOT EXISTS (
                            SELECT FROM agent_polls p WHERE p.agent_id = c.agent_id
                                AND p.last_polled_at > c.now - interval '5 seconds'
                        )
                        ON CONFLICT (agent_id) DO UPDATE SET last_polled_at = GREATEST(p.last_polled_at, excluded.last_polled_at)
                    )
                    SELECT c.now AS "now!",
                        CASE
                            WHEN (SELECT count(*) FROM leased) < (SELECT count(*) FROM due) THEN true
                            WHEN (SELECT count(*) FROM leased) < $4 THEN false
                            -- Looked at, not locked: a row locked here and not taken would look taken to others.
                            ELSE EXISTS (
                                SELECT FROM deliveries m
                                WHERE m.agent_id = $3 AND m.state IN ('ready', 'leased')
                                    AND m.visible_at >= COALESCE($9::timestamptz, '-infinity')
                                    AND m.visible_at <= COALESCE($1::timestamptz, now())
                                    AND m.expires_at > COALESCE($1::timestamptz, now())
                                    AND ($5::uuid[] IS NULL OR m.request_id = ANY ($5))
                                    AND m.request_id NOT IN (SELECT request_id FROM due)
                            )
                        END AS "has_more!",
                        CASE WHEN l.request_id IS NULL THEN (
                            SELECT n.visible_at FROM deliveries n
                            WHERE n.agent_id = $3 AND n.state IN ('ready', 'leased')
                                AND n.visible_at > COALESCE($1::timestamptz, now())
                                AND n.visible_at <= COALESCE($1::timestamptz, now())
                                    + make_interval(secs => $10::double precision)
                            ORDER BY n.visible_at LIMIT 1
                        ) END AS next_visible_at,
                        -- As it was before this statement, held by another or not: see floors.rs.
                        (
                            SELECT f.visible_at FROM deliveries f
                            WHERE f.agent_id = $3 AND f.state IN ('ready', 'leased')
                                AND f.visible_at >= COALESCE($9::timestamptz, '-infinity')
                                AND f.visible_at <= COALESCE($1::timestamptz, now())
                            ORDER BY f.visible_at LIMIT 1
                        ) AS first_visible_at,
                        l.request_id AS "request_id?: RequestId", l.attempt AS "attempt?", l.replayed AS "replayed?",
                        l.delivery_id, l.lease_expires_at,
                        l.client_request_key AS "client_request_key?: ClientRequestKey", l.action_type AS "action_type?",
                        l.entry AS "entry?", l.prev_hash AS "prev_hash?", l.hash AS "hash?", l.resume
                    FROM caller c
                    LEFT JOIN leased l ON true
                    ORDER BY l.number"#,
                    self.clock().for_database(),
                    order.caller.key_id.as_str(),
                    order.caller.agent_id.as_str(),
                    order.limit,
                    order.request_ids,
                    order.lease_seconds,
                    order.max_attempts,
                    Failure::DeliveryUnacknowledged.pause().as_secs_f64(),
                    look.from,
                    order.look_ahead.as_secs_f64(),
                )
                .fetch_all(connection));
        let rows = rows.inspect_err(|_| self.due.forget(agent_id, look))?;
        let Some(first) = rows.first() else {
            self.due.forget(agent_id, look);
            return Err(Error::Unauthenticated("the key is revoked or its agent disabled"));
        };
        self.due.learn(agent_id, look, first.now, first.first_visible_at);
        let mut leased = Leased {
            polled_at: first.now,
            has_more: first.has_more,
            next_visible_at: first.next_visible_at,
            deliveries: Vec::with_capacity(rows.len()),
        };
        for row in rows {
            let (Some(request_id), Some(client_request_key), Some(action_type), Some(delivery_id), Some(until)) =
                (row.request_id, row.client_request_key, row.action_type, row.delivery_id, row.lease_expires_at)
            else {
                continue;
            };
            leased.deliveries.push(Delivered {
                request_id,
                client_request_key,
                action_type,
                entry: row.entry.unwrap_or_default(),
                prev_hash: digest(row.prev_hash.unwrap_or_default())?,
                hash: digest(row.hash.unwrap_or_default())?,
                resume: row.resume,
                attempt: row.attempt.unwrap_or_default(),
                replayed: row.replayed.unwrap_or_default(),
                lease: Some((delivery_id, until)),
            });
        }
        Ok(leased)
    }

    /// Records what an agent says of its latest attempt.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active, [`Error::NotFound`],
    /// [`Error::StaleDelivery`].
    pub async fn acknowledge(&self, ack: &Ack<'_>) -> Result<Acked> {
        let caller = ack.caller;
        let row = run!(self, connection => sqlx::query!(
                    r#"/* relaytrace: acknowledge */
                    WITH input AS (
                        SELECT * FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
                            $8::text[], $9::text[])
                        AS i (request_id, delivery_id, agent_id, key_id, result, error_code, error_message, traceparent)
                    ), request AS (
                        SELECT r.request_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
                            r.chain_length, r.chain_head
                        FROM hitl_requests r
                        JOIN input i ON i.request_id = r.request_id AND i.agent_id = r.agent_id
                        JOIN agent_keys k ON k.key_id = i.key_id AND k.agent_id = i.agent_id AND k.revoked_at IS NULL
                        JOIN agents a ON a.agent_id = i.agent_id AND a.status = 'active'
                        ORDER BY r.request_id
                        FOR NO KEY UPDATE OF r
                    ), delivery AS (
                        SELECT r.*, i.result, i.error_code, i.error_message, i.traceparent,
                            d.attempt, d.state AS old_state, d.visible_at AS first_at
                        FROM request r
                        JOIN input i USING (request_id)
                        JOIN deliveries d ON d.request_id = r.request_id AND d.delivery_id = i.delivery_id
                            AND d.result IS NULL
                        FOR NO KEY UPDATE OF d
                    ), judged AS MATERIALIZED (
                        SELECT d.*, GREATEST(d.changed_at, COALESCE($1::timestamptz, clock_timestamp())) AS at,
                            CASE
                                WHEN d.result = 'accepted' THEN 'acknowledged'
                                WHEN d.result = 'failed' OR d.attempt >= $10::integer OR d.old_state = 'dead_lettered'
                                    THEN 'dead_lettered'
                                ELSE 'ready'
                            END AS new_state,
                            CASE WHEN d.result = 'failed' THEN 'agent_failed' ELSE 'attempts_exhausted' END AS cause
                        FROM delivery d
                    ), acked AS (
                        UPDATE deliveries d
                        SET state = j.new_state, result = j.result, error_code = j.error_code,
                            error_message = j.error_message,
                            visible_at = CASE WHEN j.new_state = 'ready'
                                THEN j.at + make_interval(secs => random() * LEAST($11::double precision, 2.0 ^ LEAST(d.attempt - 1, 20)))
                                ELSE d.visible_at END
                        FROM judged j WHERE d.request_id = j.request_id
                        RETURNING d.request_id
                    ), entries AS MATERIALIZED (
                        SELECT j.*, j.chain_length + 1 AS seq,
                            chain_entry(j.request_id, j.chain_length + 1, j.new_state, j.at,
                                chain_actor('agent', j.agent_id, NULL),
                                '"attempt":' || j.attempt || CASE WHEN j.new_state = 'dead_lettered'
                                    THEN ',"cause":"' || j.cause || '"' ELSE '' END) AS entry
                        FROM judged j
                        WHERE j.new_state IN ('acknowledged', 'dead_lettered') AND j.new_state <> j.old_state
                    ), linked AS MATERIALIZED (
                        SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
                    ), requests AS (
                        UPDATE hitl_requests r SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash
                        FROM linked l WHERE r.request_id = l.request_id
                    ), chain AS (
                        INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
                        SELECT request_id, seq, new_state, at, entry, chain_head, hash FROM linked
                    ), resolved AS (
                        UPDATE dead_letters x SET resolved_at = l.at, resolution = 'acknowledged', resolved_by = l.agent_id
                        FROM linked l
                        WHERE x.request_id = l.request_id AND x.kind = 'delivery' AND x.resolved_at IS NULL
                            AND l.new_state = 'acknowledged'
                    ), set_aside AS (
                        INSERT INTO dead_letters (dead_letter_id, kind, request_id, agent_id, cause, attempts, error_code,
                            error_message, first_at, last_at)
                        SELECT gen_random_uuid(), 'delivery', request_id, agent_id, cause, attempt, error_code,
                            error_message, LEAST(first_at, at), at
                        FROM linked WHERE new_state = 'dead_lettered'
                    ), announced AS (
                        INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
                        SELECT l.request_id, l.seq, l.new_state, l.agent_id,
                            handoff_event(l.new_state, l.request_id, l.seq, l.at, l.agent_id, l.client_request_key,
                                l.priority, l.action_digest, l.hash, h.outcome, h.cause),
                            l.traceparent, l.at, l.at + interval '10 seconds'
                        FROM linked l JOIN hitl_decisions h USING (request_id)
                        RETURNING request_id, seq, kind, payload
                    )
                    SELECT j.new_state AS "state!: DeliveryState", j.attempt AS "attempt!",
                        e.seq AS "seq?", e.kind AS "kind?", e.payload AS "payload?"
                    FROM judged j JOIN acked USING (request_id) LEFT JOIN announced e USING (request_id)"#,
                    self.clock().for_database(),
                    &[ack.request_id.0],
                    &[ack.delivery_id] as &[Option<Uuid>],
                    &[caller.agent_id.as_str()] as &[&str],
                    &[caller.key_id.as_str()] as &[&str],
                    &[ack.result] as &[AckResult],
                    &[ack.error_code] as &[Option<&str>],
                    &[ack.error_message] as &[Option<&str>],
                    &[ack.traceparent] as &[Option<&str>],
                    ack.max_attempts,
                    Failure::DeliveryRetried.pause().as_secs_f64(),
                )
                .fetch_optional(connection))?;
        let Some(row) = row else { return self.acknowledged_before(ack).await };
        let event = match (row.seq, row.kind, row.payload) {
            (Some(seq), Some(kind), Some(payload)) => Some(OutboxEvent {
                request_id: ack.request_id,
                seq,
                kind,
                agent_id: caller.agent_id.clone(),
                payload,
                traceparent: ack.traceparent.map(str::to_owned),
            }),
            _ => None,
        };
        Ok(Acked { state: row.state, attempt: row.attempt, event })
    }

    /// Why an acknowledgement changed nothing: it was said before, or is not of the latest attempt.
    async fn acknowledged_before(&self, ack: &Ack<'_>) -> Result<Acked> {
        self.request_of(ack.caller, ack.request_id).await?;
        let delivery = run!(self, connection => sqlx::query!(
                    r#"SELECT state AS "state: DeliveryState", attempt FROM deliveries
                    WHERE request_id = $1 AND delivery_id = $2 AND result IS NOT NULL"#,
                    ack.request_id.0,
                    ack.delivery_id,
                )
                .fetch_optional(connection))?
        .ok_or(Error::StaleDelivery)?;
        Ok(Acked { state: delivery.state, attempt: delivery.attempt, event: None })
    }

    /// Dead-letters up to `limit` deliveries that are out of attempts or too old, or only `only` of them. Safe when
    /// overlapping.
    pub async fn dead_letter_exhausted(
        &self,
        limit: i64,
        only: Option<RequestId>,
        max_attempts: i32,
    ) -> Result<Vec<OutboxEvent>> {
        run!(self, connection => sqlx::query_as!(
                OutboxEvent,
                r#"/* relaytrace: dead_letter_exhausted */
                WITH exhausted AS (
                    SELECT d.request_id FROM deliveries d
                    WHERE d.state IN ('ready', 'leased') AND d.expires_at <= COALESCE($1::timestamptz, now())
                        AND ($4::uuid IS NULL OR d.request_id = $4)
                        AND NOT EXISTS (
                            SELECT FROM sweep_failures f WHERE f.part = 'dead_letter' AND f.request_id = d.request_id
                                AND f.retry_at > COALESCE($1::timestamptz, now())
                        )
                    ORDER BY d.expires_at LIMIT $2
                ), request AS (
                    -- Request before delivery, as everywhere.
                    SELECT r.request_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
                        r.chain_length, r.chain_head
                    FROM hitl_requests r JOIN exhausted USING (request_id)
                    ORDER BY r.request_id
                    FOR NO KEY UPDATE OF r SKIP LOCKED
                ), delivery AS (
                    SELECT r.*, d.attempt, d.error_code, d.error_message, d.visible_at
                    FROM request r
                    JOIN deliveries d ON d.request_id = r.request_id AND d.state IN ('ready', 'leased')
                        AND d.expires_at <= COALESCE($1::timestamptz, now())
                    FOR NO KEY UPDATE OF d SKIP LOCKED
                ), entries AS MATERIALIZED (
                    SELECT d.*, d.chain_length + 1 AS seq,
                        CASE WHEN d.attempt >= $3::integer THEN 'attempts_exhausted' ELSE 'age_exceeded' END AS cause,
                        GREATEST(d.changed_at, COALESCE($1::timestamptz, clock_timestamp())) AS at
                    FROM delivery d
                ), written AS MATERIALIZED (
                    SELECT e.*, chain_entry(e.request_id, e.seq, 'dead_lettered', e.at,
                        chain_actor('system', 'timeout-sweep', NULL),
                        '"attempt":' || e.attempt || ',"cause":"' || e.cause || '"') AS entry
                    FROM entries e
                ), linked AS MATERIALIZED (
                    SELECT w.*, sha256(w.chain_head || w.entry) AS hash FROM written w
                ), requests AS (
                    UPDATE hitl_requests r SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash
                    FROM linked l WHERE r.request_id = l.request_id
                ), deliveries AS (
                    UPDATE deliveries d SET state = 'dead_lettered'
                    FROM linked l WHERE d.request_id = l.request_id
                ), chain AS (
                    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
                    SELECT request_id, seq, 'dead_lettered', at, entry, chain_head, hash FROM linked
                ), set_aside AS (
                    INSERT INTO dead_letters (dead_letter_id, kind, request_id, agent_id, cause, attempts, error_code,
                        error_message, first_at, last_at)
                    SELECT gen_random_uuid(), 'delivery', request_id, agent_id, cause, attempt, error_code,
                        error_message, LEAST(visible_at, at), at
                    FROM linked
                )
                INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
                SELECT l.request_id, l.seq, 'dead_lettered', l.agent_id,
                    handoff_event('dead_lettered', l.request_id, l.seq, l.at, l.agent_id, l.client_request_key,
                        l.priority, l.action_digest, l.hash, h.outcome, h.cause),
                    NULL, l.at, l.at + interval '10 seconds'
                FROM linked l JOIN hitl_decisions h USING (request_id)
                RETURNING request_id AS "request_id: RequestId", seq, kind, agent_id AS "agent_id: AgentId", payload, traceparent"#,
                self.clock().for_database(),
                limit,
                max_attempts,
                only.map(|id| id.0),
            )
            .fetch_all(connection))
    }
}
