//! Submitting requests, and what an agent may know of them afterwards.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::batches::{Row, column, in_order};
use super::chain::digest;
use super::deliveries::Delivered;
use super::pool::run;
use super::{Caller, OutboxEvent, Store};
use relaytrace_domain::{AgentId, ClientRequestKey, Digest, Faults, Priority, RequestId, Status, Submission};
use relaytrace_domain::{Error, Result};

/// A request as its agent sees it.
#[derive(Clone, Debug)]
pub struct RequestState {
    /// Who asked.
    pub agent_id: AgentId,
    /// The request.
    pub request_id: RequestId,
    /// The agent's own key.
    pub client_request_key: ClientRequestKey,
    /// Pending or decided.
    pub status: Status,
    /// As it now stands.
    pub priority: Priority,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// As it now stands.
    pub respond_by: DateTime<Utc>,
    /// Of its action.
    pub action_digest: Digest,
}

/// What became of a submission.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// A new request, and its event.
    Created(RequestState, OutboxEvent),
    /// The same key and envelope were submitted before: the request as it now stands, with its decision.
    Duplicate(RequestState, Option<Delivered>),
}

/// A submission on its way into the tables.
#[derive(Debug)]
pub(super) struct Submitting {
    request_id: RequestId,
    caller: Caller,
    submission: Arc<Submission>,
    /// How long the key is kept at the least; the same for all of a deployment.
    kept_seconds: f64,
    traceparent: Option<String>,
}

/// A submission that is in the tables.
pub(super) struct Accepted {
    created_at: DateTime<Utc>,
    respond_by: DateTime<Utc>,
    payload: Vec<u8>,
}

impl Submitting {
    fn created(&self, accepted: Accepted) -> Submitted {
        let envelope = &self.submission.envelope;
        let event = OutboxEvent {
            request_id: self.request_id,
            seq: 1,
            kind: "requested".into(),
            agent_id: self.caller.agent_id.clone(),
            payload: accepted.payload,
            traceparent: self.traceparent.clone(),
        };
        let state = RequestState {
            agent_id: self.caller.agent_id.clone(),
            request_id: self.request_id,
            client_request_key: envelope.client_request_key.clone(),
            status: Status::Pending,
            priority: envelope.priority,
            created_at: accepted.created_at,
            respond_by: accepted.respond_by,
            action_digest: self.submission.action_digest,
        };
        Submitted::Created(state, event)
    }
}

impl Store {
    /// Stores a submission as a new request, or finds the one that it repeats.
    ///
    /// # Errors
    /// [`Error::IdempotencyKeyReused`], [`Error::Invalid`] where `respond_by` is past or lengthens the policy's
    /// time or the priority is lower than a policy lets this action have, [`Error::Unauthenticated`] where the key or
    /// agent is no longer active, [`Error::RateLimited`] where the agent has a cap and has reached it.
    pub async fn submit(
        &self,
        caller: &Caller,
        submission: Submission,
        kept_seconds: f64,
        traceparent: Option<&str>,
    ) -> Result<Submitted> {
        const TRIES: usize = 3;
        let submission = Arc::new(submission);
        for _ in 0..TRIES {
            let row = Arc::new(Submitting {
                request_id: RequestId::mint(self.clock().now()),
                caller: caller.clone(),
                submission: submission.clone(),
                kept_seconds,
                traceparent: traceparent.map(str::to_owned),
            });
            if let Some(accepted) = self.write(|batched| &batched.submitting, &row).await? {
                return Ok(row.created(accepted));
            }
            if let Some(standing) = self.standing_request(caller, &submission).await? {
                let (request, delivered) = self.request_of(caller, standing).await?;
                return Ok(Submitted::Duplicate(request, delivered));
            }
        }
        Err(Error::Unavailable(anyhow::anyhow!("a submission found neither its place nor what took it")))
    }
}

impl Row for Submitting {
    type Written = Accepted;
    type Key<'a> = (&'a str, &'a str);

    fn key(&self) -> Self::Key<'_> {
        (self.caller.agent_id.as_str(), self.submission.envelope.client_request_key.as_str())
    }

    fn size(&self) -> usize {
        self.submission.bytes.len() + self.submission.resume.as_ref().map_or(0, Vec::len)
    }

    /// The one statement of a submission. Written over arrays; on Lambda they hold one.
    async fn write(store: &Store, rows: &[&Self]) -> Result<Vec<Option<Accepted>>> {
        let accepted = run!(store, connection => sqlx::query!(
                r#"/* relaytrace: submit */
                WITH input AS (
                    SELECT * FROM UNNEST(
                        $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::smallint[], $8::text[],
                        $9::text[], $10::bytea[], $11::timestamptz[], $12::bytea[], $13::bytea[], $14::text[]
                    ) AS i (
                        request_id, agent_id, key_id, client_request_key, fingerprint, priority, title,
                        action_type, action_digest, requested_respond_by, envelope, resume, traceparent
                    )
                ), timed AS (
                    SELECT i.*, COALESCE($1::timestamptz, now()) AS created_at,
                        p.policy_id, p.on_timeout AS policy_on_timeout, p.escalate_after_percent, p.lowest_priority,
                        COALESCE($1::timestamptz, now()) + make_interval(secs => p.respond_within_seconds) AS latest
                    FROM input i
                    JOIN agent_keys k ON k.key_id = i.key_id AND k.agent_id = i.agent_id AND k.revoked_at IS NULL
                    JOIN agents a ON a.agent_id = i.agent_id AND a.status = 'active'
                    CROSS JOIN LATERAL applying_policy(i.agent_id, i.action_type, i.priority) p
                ), accepted AS (
                    -- A second submission of the key waits here for the first one's commit, and then finds no row
                    -- to take: the statement has inserted nothing.
                    INSERT INTO request_dedupe AS d (agent_id, client_request_key, fingerprint, request_id, expires_at)
                    SELECT agent_id, client_request_key, fingerprint, request_id, created_at + make_interval(secs => $15::double precision)
                    FROM timed
                    WHERE (
                            requested_respond_by IS NULL
                            OR (requested_respond_by > created_at AND requested_respond_by <= latest)
                        )
                        AND (lowest_priority IS NULL OR priority <= lowest_priority)
                    ORDER BY agent_id, client_request_key
                    ON CONFLICT (agent_id, client_request_key) DO UPDATE
                    SET fingerprint = excluded.fingerprint, request_id = excluded.request_id,
                        expires_at = excluded.expires_at
                    -- Free after its time, but not while its request is pending, nor for 24 h from the decision.
                    WHERE d.expires_at <= COALESCE($1::timestamptz, now())
                        AND EXISTS (
                            SELECT FROM hitl_decisions h WHERE h.request_id = d.request_id
                                AND h.decided_at <= COALESCE($1::timestamptz, now()) - interval '24 hours'
                        )
                    RETURNING d.request_id
                ), judged AS (
                    SELECT t.*, LEAST(t.latest, t.requested_respond_by) AS respond_by,
                        -- Nothing is approved by a timeout that had less than the policy's full time.
                        CASE WHEN t.policy_on_timeout = 'auto_approve' AND t.requested_respond_by < t.latest
                            THEN 'auto_reject' ELSE t.policy_on_timeout END AS on_timeout
                    FROM timed t JOIN accepted USING (request_id)
                ), entries AS MATERIALIZED (
                    SELECT t.*, chain_genesis(t.request_id) AS prev_hash,
                        chain_entry(t.request_id, 1, 'submitted', t.created_at, chain_actor('agent', t.agent_id, NULL),
                            '"client_request_key":"' || t.client_request_key
                            || '","envelope_sha256":"' || digest_text(sha256(t.envelope))
                            || '","action_digest":"' || digest_text(t.action_digest)
                            || '","priority":"P' || t.priority
                            || '","respond_by":"' || rfc3339(t.respond_by)
                            || '","policy_id":"' || t.policy_id || '","on_timeout":"' || t.on_timeout || '"') AS entry
                    FROM judged t
                ), linked AS MATERIALIZED (
                    SELECT e.*, sha256(e.prev_hash || e.entry) AS hash FROM entries e
                ), events AS MATERIALIZED (
                    SELECT l.*, handoff_event('requested', l.request_id, 1, l.created_at, l.agent_id,
                        l.client_request_key, l.priority, l.action_digest, l.hash, NULL, NULL) AS payload
                    FROM linked l
                ), counted AS (
                    -- What is over a cap refuses the whole statement.
                    UPDATE agent_caps c
                    SET pending = within_cap(c.pending + n.pending, c.max_pending, 'max_pending'),
                        pending_p1 = CASE WHEN n.pending_p1 = 0 THEN c.pending_p1
                            ELSE within_cap(c.pending_p1 + n.pending_p1, c.max_pending_p1, 'max_pending_p1') END
                    FROM (
                        SELECT agent_id, count(*)::integer AS pending,
                            (count(*) FILTER (WHERE priority = 1))::integer AS pending_p1
                        FROM events GROUP BY agent_id ORDER BY agent_id
                    ) n
                    WHERE c.agent_id = n.agent_id AND (c.max_pending IS NOT NULL OR c.max_pending_p1 IS NOT NULL)
                    RETURNING c.agent_id
                ), requests AS (
                    INSERT INTO hitl_requests (
                        request_id, agent_id, client_request_key, priority, title, action_type, action_digest,
                        created_at, respond_by, requested_respond_by, on_timeout, escalate_at, changed_at,
                        chain_length, chain_head, counted
                    )
                    SELECT request_id, agent_id, client_request_key, priority, title, action_type, action_digest,
                        created_at, respond_by, requested_respond_by, on_timeout,
                        created_at + (respond_by - created_at) * escalate_after_percent / 100, created_at,
                        1, hash, agent_id IN (SELECT agent_id FROM counted)
                    FROM events
                ), envelopes AS (
                    INSERT INTO request_envelopes (request_id, envelope, resume)
                    SELECT request_id, envelope, resume FROM events
                ), chain AS (
                    INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
                    SELECT request_id, 1, 'submitted', created_at, entry, prev_hash, hash FROM events
                ), announced AS (
                    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
                    SELECT request_id, 1, 'requested', agent_id, payload, traceparent, created_at,
                        created_at + interval '10 seconds'
                    FROM events
                )
                SELECT request_id AS "request_id!", created_at AS "created_at!", respond_by AS "respond_by!", payload AS "payload!" FROM events"#,
                store.clock().for_database(),
                &column(rows, |row| row.request_id.0),
                &column(rows, |row| row.caller.agent_id.as_str()) as &[&str],
                &column(rows, |row| row.caller.key_id.as_str()) as &[&str],
                &column(rows, |row| row.submission.envelope.client_request_key.as_str()) as &[&str],
                &column(rows, |row| row.submission.fingerprint.0.as_slice()) as &[&[u8]],
                &column(rows, |row| row.submission.envelope.priority as i16),
                &column(rows, |row| row.submission.envelope.title.as_str()) as &[&str],
                &column(rows, |row| row.submission.envelope.action.action_type.as_str()) as &[&str],
                &column(rows, |row| row.submission.action_digest.0.as_slice()) as &[&[u8]],
                &column(rows, |row| row.submission.envelope.respond_by.map(|by| by.0)) as &[Option<DateTime<Utc>>],
                &column(rows, |row| row.submission.bytes.as_slice()) as &[&[u8]],
                &column(rows, |row| row.submission.resume.as_deref()) as &[Option<&[u8]>],
                &column(rows, |row| row.traceparent.as_deref()) as &[Option<&str>],
                rows.first().map_or(0.0, |row| row.kept_seconds),
            )
            .fetch_all(connection))?;
        let accepted = accepted.into_iter().map(|row| {
            let accepted = Accepted { created_at: row.created_at, respond_by: row.respond_by, payload: row.payload };
            (RequestId(row.request_id), accepted)
        });
        Ok(in_order(rows, |row| row.request_id, accepted))
    }
}

impl Store {
    /// Why nothing was inserted: the request that the key stands for, or the error that it is. `None`: what stood in
    /// the way is gone.
    async fn standing_request(&self, caller: &Caller, submission: &Submission) -> Result<Option<RequestId>> {
        let envelope = &submission.envelope;
        let found = run!(self, connection => sqlx::query!(
                    r#"/* relaytrace: standing_request */
                    SELECT EXISTS (
                            SELECT FROM agent_keys k JOIN agents a USING (agent_id)
                            WHERE k.key_id = $2 AND a.agent_id = $3 AND k.revoked_at IS NULL AND a.status = 'active'
                        ) AS "active!",
                        COALESCE($1::timestamptz, now()) AS "now!",
                        d.fingerprint AS "fingerprint?", d.request_id AS "request_id?: RequestId",
                        p.lowest_priority AS "lowest_priority?: Priority",
                        COALESCE($1::timestamptz, now()) + make_interval(secs => p.respond_within_seconds) AS "latest!"
                    FROM applying_policy($3, $5, $6) p
                    LEFT JOIN request_dedupe d ON d.agent_id = $3 AND d.client_request_key = $4
                        -- Kept as the submission's statement keeps it.
                        AND (
                            d.expires_at > COALESCE($1::timestamptz, now())
                            OR NOT EXISTS (
                                SELECT FROM hitl_decisions h WHERE h.request_id = d.request_id
                                    AND h.decided_at <= COALESCE($1::timestamptz, now()) - interval '24 hours'
                            )
                        )"#,
                    self.clock().for_database(),
                    caller.key_id.as_str(),
                    caller.agent_id.as_str(),
                    envelope.client_request_key.as_str(),
                    envelope.action.action_type.as_str(),
                    envelope.priority as i16,
                )
                .fetch_one(connection))?;
        if !found.active {
            return Err(Error::Unauthenticated("the key is revoked or its agent disabled"));
        }
        if let (Some(fingerprint), Some(request_id)) = (found.fingerprint, found.request_id) {
            let is_same = fingerprint == submission.fingerprint.0;
            return if is_same { Ok(Some(request_id)) } else { Err(Error::IdempotencyKeyReused) };
        }
        let mut faults = Faults::default();
        if let Some(lowest) = found.lowest_priority.filter(|lowest| envelope.priority > *lowest) {
            faults.add("/priority", format!("must be {lowest:?} or more urgent for this action type"));
        }
        match envelope.respond_by {
            Some(by) if by.0 <= found.now => faults.add("/respond_by", "must lie in the future"),
            Some(by) if by.0 > found.latest => {
                faults.add("/respond_by", "may shorten the time of the timeout policy, never lengthen it");
            }
            _ => {}
        }
        if faults.is_empty() { Ok(None) } else { Err(faults.into()) }
    }

    /// A request as its agent may see it, with its decision if it has one.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the agent has no such request, [`Error::Unauthenticated`] where the key or agent is
    /// no longer active.
    pub async fn request_of(
        &self,
        caller: &Caller,
        request_id: RequestId,
    ) -> Result<(RequestState, Option<Delivered>)> {
        let row = run!(self, connection => sqlx::query!(
                    r#"/* relaytrace: request_of */
                    SELECT r.request_id AS "request_id?", r.client_request_key AS "client_request_key?: ClientRequestKey",
                        r.status AS "status?: Status", r.priority AS "priority?: Priority", r.created_at AS "created_at?",
                        r.respond_by AS "respond_by?", r.action_digest AS "action_digest?", r.action_type AS "action_type?",
                        c.entry AS "entry?", c.prev_hash AS "prev_hash?", c.hash AS "hash?", e.resume AS "resume?",
                        v.attempt AS "attempt?", v.replayed AS "replayed?"
                    FROM agent_keys k
                    JOIN agents a ON a.agent_id = k.agent_id AND a.status = 'active'
                    LEFT JOIN hitl_requests r ON r.request_id = $3 AND r.agent_id = a.agent_id
                    LEFT JOIN hitl_decisions d ON d.request_id = r.request_id
                    LEFT JOIN approval_chain c ON c.request_id = d.request_id AND c.seq = d.chain_seq
                    LEFT JOIN deliveries v ON v.request_id = r.request_id
                    LEFT JOIN request_envelopes e ON e.request_id = r.request_id
                    WHERE k.key_id = $1 AND k.agent_id = $2 AND k.revoked_at IS NULL"#,
                    caller.key_id.as_str(),
                    caller.agent_id.as_str(),
                    request_id.0,
                )
                .fetch_optional(connection))?
            .ok_or(Error::Unauthenticated("the key is revoked or its agent disabled"))?;
        let (Some(client_request_key), Some(status), Some(priority), Some(created_at), Some(respond_by)) =
            (row.client_request_key, row.status, row.priority, row.created_at, row.respond_by)
        else {
            return Err(Error::NotFound);
        };
        let state = RequestState {
            agent_id: caller.agent_id.clone(),
            request_id,
            client_request_key: client_request_key.clone(),
            status,
            priority,
            created_at,
            respond_by,
            action_digest: digest(row.action_digest.unwrap_or_default())?,
        };
        let (Some(entry), Some(prev_hash), Some(hash)) = (row.entry, row.prev_hash, row.hash) else {
            return Ok((state, None));
        };
        let delivered = Delivered {
            request_id,
            client_request_key,
            action_type: row.action_type.unwrap_or_default(),
            entry,
            prev_hash: digest(prev_hash)?,
            hash: digest(hash)?,
            resume: row.resume,
            attempt: row.attempt.unwrap_or_default(),
            replayed: row.replayed.unwrap_or_default(),
            lease: None,
        };
        Ok((state, Some(delivered)))
    }

    /// Drops up to `limit` keys that are free. What is past its time and still kept is moved on to when it may be free: it
    /// is not looked at before then. A request that is pending now keeps its key for 24 h at the least.
    pub async fn drop_expired_dedupe(&self, limit: i64) -> Result<u64> {
        let dropped = run!(self, connection => sqlx::query_scalar!(
                    r#"/* relaytrace: drop_expired_dedupe */
                    WITH expired AS (
                        SELECT agent_id, client_request_key, request_id FROM request_dedupe
                        WHERE expires_at <= COALESCE($1::timestamptz, now())
                        ORDER BY expires_at LIMIT $2
                        FOR NO KEY UPDATE SKIP LOCKED
                    ), judged AS MATERIALIZED (
                        SELECT e.*, COALESCE(h.decided_at, COALESCE($1::timestamptz, now())) + interval '24 hours' AS kept_until
                        FROM expired e LEFT JOIN hitl_decisions h USING (request_id)
                    ), moved AS (
                        UPDATE request_dedupe d SET expires_at = j.kept_until
                        FROM judged j
                        WHERE d.agent_id = j.agent_id AND d.client_request_key = j.client_request_key
                            AND j.kept_until > COALESCE($1::timestamptz, now())
                    ), dropped AS (
                        DELETE FROM request_dedupe d USING judged j
                        WHERE d.agent_id = j.agent_id AND d.client_request_key = j.client_request_key
                            AND j.kept_until <= COALESCE($1::timestamptz, now())
                        RETURNING d.request_id
                    )
                    SELECT count(*) AS "dropped!" FROM dropped"#,
                    self.clock().for_database(),
                    limit,
                )
                .fetch_one(connection))?;
        Ok(dropped.cast_unsigned())
    }
}
