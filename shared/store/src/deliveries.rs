//! Deliveries: leased by polls, dead-lettered.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::chain::digest;
use super::pool::run;
use super::{Caller, OutboxEvent, Store};
use relaytrace_domain::Failure;
use relaytrace_domain::signing::StoredDecision;
use relaytrace_domain::{AgentId, ClientRequestKey, Digest, RequestId};
use relaytrace_domain::{Error, Result};

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

impl Delivered {
    /// What its receipt is made from.
    #[must_use]
    pub fn stored_decision(&self) -> StoredDecision<'_> {
        StoredDecision {
            request_id: self.request_id,
            client_request_key: &self.client_request_key,
            action_type: &self.action_type,
            entry: &self.entry,
            prev_hash: self.prev_hash,
            hash: self.hash,
        }
    }
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

impl Store {
    /// Leases what is due for a poll. Concurrent polls get disjoint sets.
    ///
    /// The lease is committed asynchronously: one that is lost in a crash is only a redelivery.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active.
    pub(super) async fn lease_now(&self, order: &LeaseOrder<'_>) -> Result<Leased> {
        let agent_id = &order.caller.agent_id;
        let scan = self.due.begin(agent_id, self.clock().now(), self.connections.unseen_ends());
        let rows = run!(on self.polls, connection => sqlx::query!(
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
                    scan.from,
                    order.look_ahead.as_secs_f64(),
                )
                .fetch_all(connection));
        let rows = rows?;
        let Some(first) = rows.first() else {
            return Err(Error::Unauthenticated("the key is revoked or its agent disabled"));
        };
        scan.record(first.now, first.first_visible_at);
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
                    -- With attempt, which is what deliveries_exhausted is for.
                    WHERE d.state IN ('ready', 'leased') AND d.attempt >= 0
                        AND d.expires_at <= COALESCE($1::timestamptz, now())
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
