//! Sending a delivery out again, because an administrator says so.

use uuid::Uuid;

use super::pool::run;
use super::{OutboxEvent, Store};
use relaytrace_domain::{Actor, ActorKind, AgentId, DeliveryState, RequestId, Status};
use relaytrace_domain::{Error, Result};

/// The statement that makes one delivery ready again: the attempt goes on counting, its age starts anew, and an open
/// dead letter of it is resolved as retried.
///
/// `$request` selects from `hitl_requests r` under `FOR NO KEY UPDATE`; `$condition` says which states of the locked
/// delivery `d` allow it. Parameters: $1 now, $2 longest age of a delivery in seconds, $3 to $5 the actor, $6 the
/// reason, $7 trace context (the tuple), $8 what names the request.
macro_rules! redelivering {
    (
        $name:literal, $request:literal, $condition:literal,
        ($store:expr, $longest_age:expr, $actor:expr, $reason:expr, $traceparent:expr), $named:expr $(,)?
    ) => {
        sqlx::query_as!(
            OutboxEvent,
            "/* relaytrace: " + $name + " */ WITH request AS (" + $request + "), delivery AS (
                SELECT r.*, d.attempt FROM request r JOIN deliveries d ON d.request_id = r.request_id
                WHERE " + $condition + r#"
                FOR NO KEY UPDATE OF d
            ), timed AS MATERIALIZED (
                SELECT d.*, d.chain_length + 1 AS seq,
                    GREATEST(d.changed_at, COALESCE($1::timestamptz, clock_timestamp())) AS at
                FROM delivery d
            ), entries AS MATERIALIZED (
                SELECT t.*, chain_entry(t.request_id, t.seq, 'replayed', t.at,
                    chain_actor($3::text, $4::text, $5::text),
                    '"attempt":' || t.attempt || ',"reason":' || json_text($6::text)) AS entry
                FROM timed t
            ), linked AS MATERIALIZED (
                SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
            ), requests AS (
                UPDATE hitl_requests r SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash
                FROM linked l WHERE r.request_id = l.request_id
            ), redelivered AS (
                UPDATE deliveries d
                SET state = 'ready', visible_at = l.at, expires_at = l.at + make_interval(secs => $2::double precision),
                    replayed = true, replayed_seq = l.seq, replayed_by = $4, replay_reason = $6
                FROM linked l WHERE d.request_id = l.request_id
            ), resolved AS (
                UPDATE dead_letters x
                SET resolved_at = l.at, resolution = 'retried', resolved_by = $4, resolve_reason = $6
                FROM linked l
                WHERE x.request_id = l.request_id AND x.kind = 'delivery' AND x.resolved_at IS NULL
            ), chain AS (
                INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
                SELECT request_id, seq, 'replayed', at, entry, chain_head, hash FROM linked
            )
            INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
            SELECT l.request_id, l.seq, 'replayed', l.agent_id,
                handoff_event('replayed', l.request_id, l.seq, l.at, l.agent_id, l.client_request_key, l.priority,
                    l.action_digest, l.hash, h.outcome, h.cause),
                $7::text, l.at, l.at + interval '10 seconds'
            FROM linked l JOIN hitl_decisions h USING (request_id)
            RETURNING request_id AS "request_id: RequestId", seq, kind, agent_id AS "agent_id: AgentId", payload,
                traceparent"#,
            $store.clock().for_database(),
            $longest_age,
            $actor.kind as ActorKind,
            &$actor.id,
            $actor.name.as_deref(),
            $reason,
            $traceparent,
            $named,
        )
    };
}

impl Store {
    /// Sends the decision of a request out again, unless its agent has acknowledged it. `None`: the same
    /// administrator did so before, and nothing has become of it since.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] where it is pending or acknowledged.
    pub async fn requeue(
        &self,
        request_id: RequestId,
        actor: &Actor,
        reason: &str,
        longest_age: f64,
        traceparent: Option<&str>,
    ) -> Result<Option<OutboxEvent>> {
        let event = run!(self, connection => redelivering!(
                    "requeue",
                    "SELECT r.* FROM hitl_requests r WHERE r.request_id = $8 AND r.status = 'decided'
                    FOR NO KEY UPDATE OF r",
                    "d.state <> 'acknowledged' AND (d.replayed_seq, d.replayed_by, d.replay_reason)
                        IS DISTINCT FROM (r.chain_length, $4::text, $6::text)",
                    (self, longest_age, actor, reason, traceparent),
                    request_id.0,
                )
                .fetch_optional(connection))?;
        if event.is_some() {
            return Ok(event);
        }
        let standing = run!(self, connection => sqlx::query!(
                    r#"SELECT r.status AS "status: Status", d.state AS "state?: DeliveryState"
                    FROM hitl_requests r LEFT JOIN deliveries d USING (request_id) WHERE r.request_id = $1"#,
                    request_id.0,
                )
                .fetch_optional(connection))?
        .ok_or(Error::NotFound)?;
        match (standing.status, standing.state) {
            (Status::Pending, _) => Err(Error::Conflict("the request is not decided: there is nothing to deliver")),
            (_, Some(DeliveryState::Acknowledged)) => Err(Error::Conflict("the agent has acknowledged the decision")),
            _ => Ok(None),
        }
    }

    /// Sends the delivery of an open dead letter out again. `None`: it is no open dead letter of a delivery.
    pub async fn redeliver_dead_letter(
        &self,
        dead_letter_id: Uuid,
        actor: &Actor,
        longest_age: f64,
        traceparent: Option<&str>,
    ) -> Result<Option<OutboxEvent>> {
        run!(self, connection => redelivering!(
                "redeliver_dead_letter",
                "SELECT r.* FROM hitl_requests r
                WHERE r.request_id = (
                    SELECT x.request_id FROM dead_letters x
                    WHERE x.dead_letter_id = $8 AND x.kind = 'delivery' AND x.resolved_at IS NULL
                )
                FOR NO KEY UPDATE OF r",
                "d.state = 'dead_lettered'",
                (self, longest_age, actor, None::<&str>, traceparent),
                dead_letter_id,
            )
            .fetch_optional(connection))
    }
}
