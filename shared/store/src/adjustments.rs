//! Adjusting what is pending: more time, another priority, by an administrator or by a policy.

use chrono::{DateTime, Utc};

use super::Store;
use super::pool::run;
use relaytrace_domain::{Actor, ActorKind, Priority, RequestId, Status, Timestamp};
use relaytrace_domain::{Error, Result};

/// What an administrator wants of a pending request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// To be answered until then.
    Extend(Timestamp),
    /// To be this urgent.
    Reprioritise(Priority),
}

/// The statement that adjusts, for whatever rows `$target` locks.
///
/// `$target` selects from `hitl_requests r` under `FOR NO KEY UPDATE` and adds `kind`, `new_priority`,
/// `new_respond_by`, `new_on_timeout`, `new_escalate_at`, `new_escalated_at`, `policy_id` (null: no policy did it) and
/// `not_after`, the moment from which on it is too late. Parameters: $1 now, $2 to $4 the actor, $5 the reason (the
/// tuple); the target's own start at $6.
macro_rules! adjusting {
    ($name:literal, $target:literal, ($store:expr, $actor:expr, $reason:expr), $($argument:expr),* $(,)?) => {
        sqlx::query_scalar!(
            "/* relaytrace: " + $name + " */ WITH target AS (" + $target + r#"), timed AS MATERIALIZED (
                SELECT t.*, t.chain_length + 1 AS seq,
                    GREATEST(t.changed_at, COALESCE($1::timestamptz, clock_timestamp())) AS at
                FROM target t
            ), entries AS MATERIALIZED (
                SELECT t.*, chain_entry(t.request_id, t.seq, t.kind, t.at, chain_actor($2::text, $3::text, $4::text),
                    '"priority":"P' || t.new_priority || '","respond_by":"' || rfc3339(t.new_respond_by)
                    || '","previous":{"priority":"P' || t.priority || '","respond_by":"' || rfc3339(t.respond_by)
                    || '"},"reason":' || json_text($5::text)
                    || COALESCE(',"policy_id":"' || t.policy_id::text || '"', '')) AS entry
                FROM timed t WHERE t.at < t.not_after
            ), linked AS MATERIALIZED (
                SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
            ), adjusted AS (
                UPDATE hitl_requests r
                SET priority = l.new_priority, respond_by = l.new_respond_by, on_timeout = l.new_on_timeout,
                    escalate_at = l.new_escalate_at, escalated_at = l.new_escalated_at,
                    changed_at = l.at, chain_length = l.seq, chain_head = l.hash
                FROM linked l WHERE r.request_id = l.request_id AND r.status = 'pending'
                RETURNING l.*
            ), recounted AS (
                -- A cap refuses what an agent asks, not what becomes of it.
                UPDATE agent_caps c SET pending_p1 = c.pending_p1 + n.more
                FROM (
                    SELECT agent_id, sum((new_priority = 1)::integer - (priority = 1)::integer)::integer AS more
                    FROM adjusted WHERE counted AND new_priority <> priority GROUP BY agent_id ORDER BY agent_id
                ) n
                WHERE c.agent_id = n.agent_id
            )
            INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
            SELECT request_id, seq, kind, at, entry, chain_head, hash FROM adjusted
            RETURNING request_id"#,
            $store.clock().for_database(),
            $actor.kind as ActorKind,
            &$actor.id,
            $actor.name.as_deref(),
            $reason,
            $($argument),*
        )
    };
}

impl Store {
    /// Gives a pending request more time, or another priority.
    ///
    /// # Errors
    /// [`Error::NotFound`]; but for the same administrator's same adjustment: [`Error::Expired`] where more time
    /// comes too late, [`Error::Conflict`] where it is decided or as wanted already, [`Error::Invalid`] where it is
    /// not more time.
    pub async fn adjust(&self, request_id: RequestId, wanted: Adjustment, actor: &Actor, reason: &str) -> Result<()> {
        let adjusted = match wanted {
            Adjustment::Extend(respond_by) => self.extend(request_id, respond_by, actor, reason).await?,
            Adjustment::Reprioritise(priority) => self.reprioritise(request_id, priority, actor, reason).await?,
        };
        if adjusted { Ok(()) } else { self.adjusted_before(request_id, wanted, actor, reason).await }
    }

    async fn extend(&self, request_id: RequestId, until: Timestamp, actor: &Actor, reason: &str) -> Result<bool> {
        let extended = run!(self, connection => adjusting!(
                    "extend",
                    "SELECT r.*, 'extended' AS kind, r.priority AS new_priority, $7::timestamptz AS new_respond_by,
                        r.on_timeout AS new_on_timeout, r.escalate_at AS new_escalate_at,
                        r.escalated_at AS new_escalated_at, NULL::uuid AS policy_id, r.respond_by AS not_after
                    FROM hitl_requests r
                    WHERE r.request_id = $6 AND r.status = 'pending' AND r.respond_by < $7
                    FOR NO KEY UPDATE OF r",
                    (self, actor, reason),
                    request_id.0,
                    until.0,
                )
                .fetch_optional(connection))?;
        Ok(extended.is_some())
    }

    /// Its time stays. What a policy would have approved by itself at another priority is rejected.
    async fn reprioritise(&self, request_id: RequestId, to: Priority, actor: &Actor, reason: &str) -> Result<bool> {
        let reprioritised = run!(self, connection => adjusting!(
                    "reprioritise",
                    "SELECT r.*, 'reprioritised' AS kind, $7::smallint AS new_priority, r.respond_by AS new_respond_by,
                        CASE WHEN r.on_timeout = 'auto_approve' THEN 'auto_reject' ELSE r.on_timeout END AS new_on_timeout,
                        r.escalate_at AS new_escalate_at, r.escalated_at AS new_escalated_at, NULL::uuid AS policy_id,
                        'infinity'::timestamptz AS not_after
                    FROM hitl_requests r
                    WHERE r.request_id = $6 AND r.status = 'pending' AND r.priority <> $7
                    FOR NO KEY UPDATE OF r",
                    (self, actor, reason),
                    request_id.0,
                    to as i16,
                )
                .fetch_optional(connection))?;
        Ok(reprioritised.is_some())
    }

    /// Raises the priority of up to twice `limit` requests whose time is over and whose policy says so, or only of
    /// `only`: one step, with that step's time, never past the agent's own deadline. Safe when overlapping.
    pub async fn raise_due(&self, limit: i64, only: Option<RequestId>) -> Result<u64> {
        let actor = Actor::timeout_sweep();
        let raised = run!(self, connection => adjusting!(
                    "raise_due",
                    "SELECT r.*, 'reprioritised' AS kind, (r.priority - 1)::smallint AS new_priority,
                        t.respond_by AS new_respond_by, r.on_timeout AS new_on_timeout,
                        t.now + (t.respond_by - t.now) * p.escalate_after_percent / 100 AS new_escalate_at,
                        NULL::timestamptz AS new_escalated_at, p.policy_id, 'infinity'::timestamptz AS not_after
                    FROM (VALUES (2::smallint), (3::smallint)) AS s (priority)
                    CROSS JOIN LATERAL (
                        SELECT r.* FROM hitl_requests r
                        WHERE r.status = 'pending' AND r.priority = s.priority
                            AND r.respond_by <= COALESCE($1::timestamptz, now())
                            AND may_be_raised(
                                r.on_timeout, r.priority, r.requested_respond_by, COALESCE($1::timestamptz, now())
                            )
                            AND ($7::uuid IS NULL OR r.request_id = $7)
                            AND NOT EXISTS (
                                SELECT FROM sweep_failures f WHERE f.part = 'raise' AND f.request_id = r.request_id
                                    AND f.retry_at > COALESCE($1::timestamptz, now())
                            )
                        ORDER BY r.respond_by LIMIT $6
                        FOR NO KEY UPDATE SKIP LOCKED
                    ) r
                    CROSS JOIN LATERAL applying_policy(r.agent_id, r.action_type, (r.priority - 1)::smallint) p
                    CROSS JOIN LATERAL (
                        SELECT COALESCE($1::timestamptz, now()) AS now, LEAST(
                            COALESCE($1::timestamptz, now()) + make_interval(secs => p.respond_within_seconds),
                            r.requested_respond_by
                        ) AS respond_by
                    ) t",
                    (self, actor, None::<&str>),
                    limit,
                    only.map(|id| id.0),
                )
                .fetch_all(connection))?;
        Ok(raised.len() as u64)
    }

    /// Why an adjustment changed nothing: it was made before, or the state does not allow it.
    async fn adjusted_before(
        &self,
        request_id: RequestId,
        wanted: Adjustment,
        actor: &Actor,
        reason: &str,
    ) -> Result<()> {
        let found = run!(self, connection => sqlx::query!(
                    r#"/* relaytrace: adjusted_before */
                    SELECT r.status AS "status: Status", r.respond_by, COALESCE($1::timestamptz, clock_timestamp()) AS "now!: DateTime<Utc>",
                        ARRAY(
                            SELECT c.entry FROM approval_chain c
                            WHERE c.request_id = r.request_id AND c.kind IN ('extended', 'reprioritised')
                            ORDER BY c.seq DESC
                        ) AS "entries!"
                    FROM hitl_requests r WHERE r.request_id = $2"#,
                    self.clock().for_database(),
                    request_id.0,
                )
                .fetch_optional(connection))?
        .ok_or(Error::NotFound)?;
        let mut entries = found.entries.iter().map(|bytes| serde_json::from_slice::<AdjustedEntry>(bytes));
        // A later deadline never comes back, so any entry will do; a priority may, so only the newest one.
        let is_repeated = match wanted {
            Adjustment::Extend(until) => entries
                .flatten()
                .any(|entry| entry.kind == "extended" && entry.respond_by == until && entry.is_by(actor, reason)),
            Adjustment::Reprioritise(to) => entries
                .find_map(|entry| entry.ok().filter(|entry| entry.kind == "reprioritised"))
                .is_some_and(|entry| entry.priority == to && entry.is_by(actor, reason)),
        };
        match wanted {
            _ if is_repeated => Ok(()),
            Adjustment::Extend(_) if found.now >= found.respond_by => {
                Err(Error::Expired { respond_by: Timestamp(found.respond_by) })
            }
            _ if found.status == Status::Decided => Err(Error::Conflict("the request is decided")),
            Adjustment::Extend(until) if until.0 < found.respond_by => {
                Err(Error::invalid("/respond_by", "must be later than the respond_by that stands"))
            }
            Adjustment::Extend(_) => Err(Error::Conflict("the request has this respond_by already")),
            Adjustment::Reprioritise(_) => Err(Error::Conflict("the request has this priority already")),
        }
    }
}

/// What an `extended` or `reprioritised` entry says.
#[derive(serde::Deserialize)]
struct AdjustedEntry {
    kind: String,
    actor: Actor,
    priority: Priority,
    respond_by: Timestamp,
    reason: Option<String>,
}

impl AdjustedEntry {
    fn is_by(&self, actor: &Actor, reason: &str) -> bool {
        self.actor.kind == actor.kind && self.actor.id == actor.id && self.reason.as_deref() == Some(reason)
    }
}
