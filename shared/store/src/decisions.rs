//! Deciding: the one place where a request stops being pending.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::batches::{Row, column, in_order};
use super::chain::digest;
use super::pool::run;
use super::{Caller, OutboxEvent, Store};
use relaytrace_domain::{Actor, ActorKind, AgentId, Cause, Decision, Digest, Outcome, RequestId, Status, Timestamp};
use relaytrace_domain::{Error, Result};

/// What someone wants a request's decision to be.
#[derive(Clone, Debug)]
pub struct Deciding {
    /// The request.
    pub request_id: RequestId,
    /// Who decides.
    pub actor: Actor,
    /// What.
    pub outcome: Outcome,
    /// Why, in their words.
    pub reason: Option<String>,
    /// The action that they saw; `None`: they did not say.
    pub action_digest: Option<Digest>,
    /// Age in seconds at which its delivery is given up; the same for all of a deployment.
    pub longest_age: f64,
    /// W3C trace context of the call.
    pub traceparent: Option<String>,
}

/// A decision, and its event if it was made just now.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The decision as it stands.
    pub decision: Decision,
    /// Its event; `None` for a repeated call.
    pub event: Option<OutboxEvent>,
}

/// A decision that is in the tables.
pub(super) struct Made {
    request_id: RequestId,
    agent_id: AgentId,
    at: DateTime<Utc>,
    seq: i32,
    action_digest: Vec<u8>,
    payload: Vec<u8>,
}

/// The statement that decides, for whatever rows `$target` locks.
///
/// `$target` selects from `hitl_requests r` under `FOR NO KEY UPDATE` and adds `outcome`, `cause`, `reason`, the actor,
/// `traceparent`, and `not_after`, the moment from which on it is too late. Status, chain head and length come from the
/// locked row: a second scan of the table would see what was there before the lock was granted. Parameters: $1 now, $2
/// longest age of a delivery in seconds; the target's own start at $3.
macro_rules! deciding {
    ($name:literal, $target:literal, ($store:expr, $longest_age:expr), $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            Made,
            "/* relaytrace: " + $name + " */ WITH target AS (" + $target + r#"), timed AS MATERIALIZED (
                SELECT t.*, GREATEST(t.changed_at, COALESCE($1::timestamptz, clock_timestamp())) AS at FROM target t
            ), entries AS MATERIALIZED (
                SELECT t.*, t.chain_length + 1 AS seq,
                    chain_entry(t.request_id, t.chain_length + 1, 'decided', t.at,
                        chain_actor(t.actor_kind, t.actor_id, t.actor_name),
                        '"outcome":"' || t.outcome || '","cause":"' || t.cause
                        || '","action_digest":"' || digest_text(t.action_digest)
                        || '","reason":' || json_text(t.reason)) AS entry
                FROM timed t WHERE t.at < t.not_after
            ), linked AS MATERIALIZED (
                SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
            ), decided AS (
                UPDATE hitl_requests r
                SET status = 'decided', changed_at = l.at, chain_length = l.seq, chain_head = l.hash
                FROM linked l WHERE r.request_id = l.request_id AND r.status = 'pending'
                RETURNING l.*
            ), uncounted AS (
                UPDATE agent_caps c SET pending = c.pending - n.pending, pending_p1 = c.pending_p1 - n.pending_p1
                FROM (
                    SELECT agent_id, count(*)::integer AS pending,
                        (count(*) FILTER (WHERE priority = 1))::integer AS pending_p1
                    FROM decided WHERE counted GROUP BY agent_id ORDER BY agent_id
                ) n
                WHERE c.agent_id = n.agent_id
            ), decisions AS (
                INSERT INTO hitl_decisions (
                    request_id, outcome, cause, decided_by_kind, decided_by_id, decided_by_name, reason, decided_at, chain_seq
                )
                SELECT request_id, outcome, cause, actor_kind, actor_id, actor_name, reason, at, seq FROM decided
            ), chain AS (
                INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
                SELECT request_id, seq, 'decided', at, entry, chain_head, hash FROM decided
            ), delivered AS (
                INSERT INTO deliveries (request_id, agent_id, visible_at, expires_at)
                SELECT request_id, agent_id, at, at + make_interval(secs => $2::double precision) FROM decided
            ), announced AS (
                INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
                SELECT request_id, seq, 'decided', agent_id,
                    handoff_event('decided', request_id, seq, at, agent_id, client_request_key, priority,
                        action_digest, hash, outcome, cause),
                    traceparent, at, at + interval '10 seconds'
                FROM decided
                RETURNING request_id, payload
            )
            SELECT request_id AS "request_id!: RequestId", agent_id AS "agent_id!: AgentId", at AS "at!", seq AS "seq!",
                action_digest AS "action_digest!", payload AS "payload!"
            FROM decided JOIN announced USING (request_id)"#,
            $store.clock().for_database(),
            $longest_age,
            $($argument),*
        )
    };
}

impl Made {
    fn event(self, traceparent: Option<String>) -> OutboxEvent {
        OutboxEvent {
            request_id: self.request_id,
            seq: self.seq,
            kind: "decided".into(),
            agent_id: self.agent_id,
            payload: self.payload,
            traceparent,
        }
    }
}

impl Row for Deciding {
    type Written = Made;
    type Key<'a> = RequestId;

    fn key(&self) -> RequestId {
        self.request_id
    }

    fn size(&self) -> usize {
        512 + self.reason.as_ref().map_or(0, String::len)
    }

    /// The one statement of operators' decisions. Written over arrays; on Lambda they hold one.
    async fn write(store: &Store, rows: &[&Self]) -> Result<Vec<Option<Made>>> {
        let made = run!(store, connection => deciding!(
                    "decide",
                    "SELECT r.request_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
                        r.chain_length, r.chain_head, r.counted, i.outcome, 'operator' AS cause, i.reason,
                        i.actor_kind, i.actor_id, i.actor_name, i.traceparent, r.respond_by AS not_after
                    FROM hitl_requests r
                    JOIN UNNEST($3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::text[], $10::text[])
                        AS i (request_id, outcome, reason, action_digest, actor_kind, actor_id, actor_name, traceparent)
                        ON i.request_id = r.request_id
                    WHERE r.status = 'pending' AND r.action_digest = COALESCE(i.action_digest, r.action_digest)
                    ORDER BY r.request_id
                    FOR NO KEY UPDATE OF r",
                    (store, rows.first().map_or(0.0, |row| row.longest_age)),
                    &column(rows, |row| row.request_id.0),
                    &column(rows, |row| row.outcome) as &[Outcome],
                    &column(rows, |row| row.reason.as_deref()) as &[Option<&str>],
                    &column(rows, |row| row.action_digest.as_ref().map(|digest| digest.0.as_slice())) as &[Option<&[u8]>],
                    &column(rows, |row| row.actor.kind) as &[ActorKind],
                    &column(rows, |row| row.actor.id.as_str()) as &[&str],
                    &column(rows, |row| row.actor.name.as_deref()) as &[Option<&str>],
                    &column(rows, |row| row.traceparent.as_deref()) as &[Option<&str>],
                )
                .fetch_all(connection))?;
        Ok(in_order(rows, |row| row.request_id, made.into_iter().map(|made| (made.request_id, made))))
    }
}

impl Store {
    /// An operator's decision: before `respond_by`, on the action that they saw.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the first that applies of [`Error::AlreadyDecided`] (but for the same operator's same
    /// decision), [`Error::Expired`] and [`Error::ActionMismatch`].
    pub async fn decide(&self, deciding: Deciding) -> Result<Decided> {
        let deciding = Arc::new(deciding);
        if let Some(made) = self.write(|batched| &batched.deciding, &deciding).await? {
            return deciding.made(made, Cause::Operator);
        }
        let standing = self.standing(deciding.request_id).await?;
        match standing.decision {
            Some(decision) if deciding.is_repeated_by(&decision) => Ok(Decided { decision, event: None }),
            Some(decision) => Err(Error::AlreadyDecided(Box::new(decision))),
            None if standing.now >= standing.respond_by => {
                Err(Error::Expired { respond_by: Timestamp(standing.respond_by) })
            }
            None if deciding.action_digest.is_some_and(|digest| digest != standing.action_digest) => {
                Err(Error::ActionMismatch)
            }
            None => Err(Error::Unavailable(anyhow::anyhow!("a decision neither was made nor had anything against it"))),
        }
    }

    /// The agent's own cancel, also past `respond_by` as long as no sweep has run.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active, [`Error::NotFound`],
    /// [`Error::AlreadyDecided`] where it was decided otherwise.
    pub async fn cancel(&self, caller: &Caller, deciding: &Deciding) -> Result<Decided> {
        let Deciding { request_id, actor, outcome, reason, longest_age, traceparent, .. } = deciding;
        let made = run!(self, connection => deciding!(
                    "cancel",
                    "SELECT r.request_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
                        r.chain_length, r.chain_head, r.counted, $8::text AS outcome, 'agent' AS cause, $9::text AS reason,
                        $3::text AS actor_kind, $4::text AS actor_id, $5::text AS actor_name, $6::text AS traceparent,
                        'infinity'::timestamptz AS not_after
                    FROM hitl_requests r
                    JOIN agent_keys k ON k.agent_id = r.agent_id AND k.key_id = $10 AND k.revoked_at IS NULL
                    JOIN agents a ON a.agent_id = r.agent_id AND a.status = 'active'
                    WHERE r.request_id = $7 AND r.status = 'pending' AND r.agent_id = $4
                    FOR NO KEY UPDATE OF r",
                    (self, *longest_age),
                    actor.kind as ActorKind,
                    &actor.id,
                    actor.name.as_deref(),
                    traceparent.as_deref(),
                    request_id.0,
                    *outcome as Outcome,
                    reason.as_deref(),
                    caller.key_id.as_str(),
                )
                .fetch_optional(connection))?;
        if let Some(made) = made {
            return deciding.made(made, Cause::Agent);
        }
        // Only its own agent may learn how it stands; this refuses revoked keys and foreign requests.
        self.request_of(caller, *request_id).await?;
        match self.standing(*request_id).await?.decision {
            Some(decision) if decision.cause == Cause::Agent => Ok(Decided { decision, event: None }),
            Some(decision) => Err(Error::AlreadyDecided(Box::new(decision))),
            None => Err(Error::Unavailable(anyhow::anyhow!("a cancel neither was made nor had anything against it"))),
        }
    }

    /// An administrator's `cancel` or `reject`, as long as the request is pending.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::AlreadyDecided`] but for the same administrator's same disposition.
    pub async fn decide_as_admin(&self, deciding: &Deciding) -> Result<Decided> {
        let Deciding { request_id, actor, outcome, reason, longest_age, traceparent, .. } = deciding;
        let made = run!(self, connection => deciding!(
                    "decide_as_admin",
                    "SELECT r.request_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
                        r.chain_length, r.chain_head, r.counted, $8::text AS outcome, 'admin' AS cause, $9::text AS reason,
                        $3::text AS actor_kind, $4::text AS actor_id, $5::text AS actor_name, $6::text AS traceparent,
                        'infinity'::timestamptz AS not_after
                    FROM hitl_requests r
                    WHERE r.request_id = $7 AND r.status = 'pending'
                    FOR NO KEY UPDATE OF r",
                    (self, *longest_age),
                    actor.kind as ActorKind,
                    &actor.id,
                    actor.name.as_deref(),
                    traceparent.as_deref(),
                    request_id.0,
                    *outcome as Outcome,
                    reason.as_deref(),
                )
                .fetch_optional(connection))?;
        if let Some(made) = made {
            return deciding.made(made, Cause::Admin);
        }
        match self.standing(*request_id).await?.decision {
            Some(decision) if deciding.is_repeated_by(&decision) => Ok(Decided { decision, event: None }),
            Some(decision) => Err(Error::AlreadyDecided(Box::new(decision))),
            None => {
                Err(Error::Unavailable(anyhow::anyhow!("a disposition neither was made nor had anything against it")))
            }
        }
    }

    /// Decides up to three times `limit` requests whose time is over, or only `only` of them: rejects, or approves
    /// where the policy says so and the deployment allows it. Safe when overlapping: rows that another sweep holds
    /// are skipped.
    pub async fn expire_due(
        &self,
        limit: i64,
        only: Option<RequestId>,
        longest_age: f64,
        allow_auto_approve: bool,
    ) -> Result<Vec<OutboxEvent>> {
        let actor = Actor::timeout_sweep();
        let made = run!(self, connection => deciding!(
                    "expire_due",
                    "SELECT r.*, 'timeout' AS cause,
                        CASE WHEN r.on_timeout = 'auto_approve' AND r.priority > 1 AND $6::boolean
                            THEN 'approved' ELSE 'rejected' END AS outcome,
                        NULL::text AS reason, $3::text AS actor_kind, $4::text AS actor_id, NULL::text AS actor_name,
                        NULL::text AS traceparent, 'infinity'::timestamptz AS not_after
                    FROM (VALUES (1::smallint), (2::smallint), (3::smallint)) AS p (priority)
                    CROSS JOIN LATERAL (
                        SELECT r.request_id, r.agent_id, r.client_request_key, r.priority, r.action_digest,
                            r.changed_at, r.chain_length, r.chain_head, r.counted, r.on_timeout
                        FROM hitl_requests r
                        WHERE r.status = 'pending' AND r.priority = p.priority
                            AND r.respond_by <= COALESCE($1::timestamptz, now())
                            AND NOT may_be_raised(
                                r.on_timeout, r.priority, r.requested_respond_by, COALESCE($1::timestamptz, now())
                            )
                            AND ($7::uuid IS NULL OR r.request_id = $7)
                            AND NOT EXISTS (
                                SELECT FROM sweep_failures f WHERE f.part = 'expire' AND f.request_id = r.request_id
                                    AND f.retry_at > COALESCE($1::timestamptz, now())
                            )
                        ORDER BY r.respond_by LIMIT $5
                        FOR NO KEY UPDATE SKIP LOCKED
                    ) r",
                    (self, longest_age),
                    actor.kind as ActorKind,
                    &actor.id,
                    limit,
                    allow_auto_approve,
                    only.map(|id| id.0),
                )
                .fetch_all(connection))?;
        Ok(made.into_iter().map(|made| made.event(None)).collect())
    }

    /// How a request stands that could not be decided.
    async fn standing(&self, request_id: RequestId) -> Result<Standing> {
        let row = run!(self, connection => sqlx::query!(
                    r#"SELECT COALESCE($1::timestamptz, clock_timestamp()) AS "now!", r.respond_by, r.action_digest,
                        r.status AS "status: Status",
                        d.outcome AS "outcome?: Outcome", d.cause AS "cause?: Cause",
                        d.decided_by_kind AS "decided_by_kind?: ActorKind", d.decided_by_id AS "decided_by_id?",
                        d.decided_by_name, d.reason, d.decided_at AS "decided_at?"
                    FROM hitl_requests r LEFT JOIN hitl_decisions d USING (request_id)
                    WHERE r.request_id = $2"#,
                    self.clock().for_database(),
                    request_id.0,
                )
                .fetch_optional(connection))?
        .ok_or(Error::NotFound)?;
        let action_digest = digest(row.action_digest)?;
        let found = FoundDecision {
            outcome: row.outcome,
            cause: row.cause,
            kind: row.decided_by_kind,
            id: row.decided_by_id,
            name: row.decided_by_name,
            at: row.decided_at,
            reason: row.reason,
        };
        let decision = found.of(request_id, action_digest);
        Ok(Standing { now: row.now, respond_by: row.respond_by, action_digest, decision })
    }
}

/// The columns of a decision that an outer join may have found.
pub(super) struct FoundDecision {
    pub(super) outcome: Option<Outcome>,
    pub(super) cause: Option<Cause>,
    pub(super) kind: Option<ActorKind>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) at: Option<DateTime<Utc>>,
    pub(super) reason: Option<String>,
}

impl FoundDecision {
    pub(super) fn of(self, request_id: RequestId, action_digest: Digest) -> Option<Decision> {
        let decided_by = Actor { kind: self.kind?, id: self.id?, name: self.name };
        let (outcome, cause, decided_at) = (self.outcome?, self.cause?, Timestamp(self.at?));
        Some(Decision { request_id, outcome, cause, decided_by, decided_at, reason: self.reason, action_digest })
    }
}

struct Standing {
    now: DateTime<Utc>,
    respond_by: DateTime<Utc>,
    action_digest: Digest,
    decision: Option<Decision>,
}

impl Deciding {
    fn made(&self, mut made: Made, cause: Cause) -> Result<Decided> {
        let decision = Decision {
            request_id: self.request_id,
            outcome: self.outcome,
            cause,
            decided_by: self.actor.clone(),
            decided_at: Timestamp(made.at),
            reason: self.reason.clone(),
            action_digest: digest(std::mem::take(&mut made.action_digest))?,
        };
        Ok(Decided { decision, event: Some(made.event(self.traceparent.clone())) })
    }

    /// Whether the same person said the same thing before: a retry, not a second decision.
    fn is_repeated_by(&self, decision: &Decision) -> bool {
        decision.repeats(&self.actor, self.outcome, self.reason.as_deref())
    }
}
