//! Sending a delivery out again, because an administrator says so.

use relaytrace_domain::{Actor, ActorKind, AgentId, DeliveryState, Error, RequestId, Result, Status};
use uuid::Uuid;

use crate::database::Database;
use crate::{OutboxEvent, Scope};

/// The statement that makes deliveries ready again: the attempt goes on counting, its age starts anew, and its open dead
/// letter is resolved as retried. An administrator's requeue, the retry of a dead letter and each batch of a replay.
///
/// `$head` ends with a CTE `delivery` of locked rows: a request's `request_id, tenant_id, agent_id, client_request_key,
/// priority, action_digest, changed_at, chain_length, chain_head`, the `attempt`, `old_state` and `dead_letter_id` of its
/// delivery, the `actor_kind, actor_id, actor_name, reason` and `traceparent` of who asks, the `replay_id` if a replay
/// does, and `max_age`, the seconds until a delivery is given up. `$rest` follows the CTE `announced`, which returns the
/// events. $1 is now. The literals are handed to `$then!` in brackets, between what stands before and after them.
macro_rules! redelivering {
    ($then:ident!($($before:tt)*) $head:literal $rest:literal $($after:tt)*) => {
        $then!($($before)* [
            $head
            r#", timed AS MATERIALIZED (
                SELECT d.*, d.chain_length + 1 AS seq, GREATEST(d.changed_at, at_or_clock($1)) AS at,
                    at_or_clock($1) AS moment
                FROM delivery d
            ), entries AS MATERIALIZED (
                SELECT t.*, chain_entry(t.request_id, t.seq, 'replayed', t.at,
                    chain_actor(t.actor_kind, t.actor_id, t.actor_name),
                    '"attempt":' || t.attempt || COALESCE(',"replay_id":"' || t.replay_id || '"', '')
                    || ',"reason":' || json_text(t.reason)) AS entry
                FROM timed t
            ), linked AS MATERIALIZED (
                SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
            ), requests AS (
                UPDATE hitl_requests r SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash
                FROM linked l WHERE r.request_id = l.request_id
            ), redelivered AS (
                -- What the agent said of its latest attempt stays: the same words again must not end this one.
                UPDATE deliveries d
                SET state = 'ready', visible_at = l.moment, expires_at = l.moment + make_interval(secs => l.max_age),
                    replayed = true, replayed_seq = l.seq, replayed_by = l.actor_id, replay_reason = l.reason,
                    dead_letter_id = CASE WHEN l.old_state = 'dead_lettered' OR l.dead_letter_id IS NOT NULL
                        THEN without_dead_letter(l.request_id, l.at, 'retried', l.actor_id, l.reason) END
                FROM linked l WHERE d.request_id = l.request_id
            ), chain AS (
                INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
                SELECT request_id, seq, 'replayed', at, entry, chain_head, hash FROM linked
            ), announced AS (
                INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
                SELECT l.request_id, l.seq, 'replayed', l.agent_id,
                    handoff_event('replayed', l.request_id, l.seq, l.at, l.agent_id, l.client_request_key, l.priority,
                        l.action_digest, l.hash, h.outcome, h.cause, l.tenant_id),
                    l.traceparent, l.at, l.moment + interval '10 seconds'
                FROM linked l JOIN hitl_decisions h USING (request_id)
                RETURNING request_id, seq, kind, agent_id, payload, traceparent
            )"#
            $rest
        ] $($after)*)
    };
}
pub(crate) use redelivering;

macro_rules! statement {
    ([$first:literal $($more:literal)*] $($argument:expr),* $(,)?) => {
        sqlx::query_as!(OutboxEvent, $first $(+ $more)*, $($argument),*)
    };
}

impl Database {
    /// Sends the decision of a request out again, unless its agent has acknowledged it. `None`: the same
    /// administrator did so before, and nothing has become of it since.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] where it is pending or acknowledged.
    pub async fn requeue(
        &self,
        scope: &Scope,
        request_id: RequestId,
        reason: &str,
        traceparent: Option<&str>,
    ) -> Result<Option<OutboxEvent>> {
        // A decision that was committed while the statement waited for the request is there for the next one.
        const TRIES: usize = 3;
        for _ in 0..TRIES {
            let event = self.redeliver(scope, request_id, None, Some(reason), traceparent).await?;
            if event.is_some() {
                return Ok(event);
            }
            let standing = self
                .optional(|| {
                    sqlx::query_file!(
                        "sql/redelivery_standing.sql",
                        request_id.0,
                        scope.tenant.as_str(),
                        &scope.actor.id,
                        reason
                    )
                })
                .await?
                .ok_or(Error::NotFound)?;
            match (standing.status, standing.state) {
                (Status::Pending, _) => {
                    return Err(Error::Conflict("the request is not decided: there is nothing to deliver"));
                }
                (_, Some(DeliveryState::Acknowledged)) => {
                    return Err(Error::Conflict("the agent has acknowledged the decision"));
                }
                _ if standing.is_repeated => return Ok(None),
                _ => {}
            }
        }
        Err(Error::Unavailable(anyhow::anyhow!("the delivery was not sent out again and no reason was found")))
    }

    /// Sends one delivery out again: an unacknowledged one, or that of this open dead letter.
    pub(crate) async fn redeliver(
        &self,
        scope: &Scope,
        request_id: RequestId,
        dead_letter_id: Option<Uuid>,
        reason: Option<&str>,
        traceparent: Option<&str>,
    ) -> Result<Option<OutboxEvent>> {
        let actor: &Actor = &scope.actor;
        self.optional(|| {
            redelivering!(
                statement!()
                "/* relaytrace: redeliver */
                WITH request AS (
                    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority,
                        COALESCE(r.approved_digest, r.action_digest) AS action_digest, r.changed_at, r.chain_length, r.chain_head
                    FROM hitl_requests r
                    WHERE r.request_id = $3 AND r.tenant_id = $4 AND r.status = 'decided'
                    FOR NO KEY UPDATE OF r
                ), delivery AS (
                    SELECT r.*, d.attempt, d.state AS old_state, d.dead_letter_id, NULL::uuid AS replay_id,
                        $6::text AS actor_kind, $7::text AS actor_id, $8::text AS actor_name, $9::text AS reason,
                        $10::text AS traceparent, $2::double precision AS max_age
                    FROM request r JOIN deliveries d ON d.request_id = r.request_id
                    WHERE CASE WHEN $5::uuid IS NULL
                        -- Not the same call again with nothing in between.
                        THEN d.state <> 'acknowledged' AND (d.replayed_seq, d.replayed_by, d.replay_reason)
                            IS DISTINCT FROM (r.chain_length, $7, $9)
                        ELSE d.state = 'dead_lettered' AND COALESCE(d.dead_letter_id, $5) = $5
                    END
                    FOR NO KEY UPDATE OF d
                )"
                r#" SELECT request_id AS "request_id: RequestId", seq, kind, agent_id AS "agent_id: AgentId", payload,
                    traceparent
                FROM announced"#
                self.clock().for_database(),
                self.rules.max_age_seconds,
                request_id.0,
                scope.tenant.as_str(),
                dead_letter_id,
                actor.kind as ActorKind,
                &actor.id,
                actor.name.as_deref(),
                reason,
                traceparent,
            )
        })
        .await
    }
}
