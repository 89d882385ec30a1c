//! Dead letters: what could not be done and waits for an administrator.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::pool::run;
use super::{OutboxEvent, Store};
use relaytrace_domain::Failure;
use relaytrace_domain::{Actor, AgentId, DeadLetterKind, RequestId, Resolution};
use relaytrace_domain::{Error, Result};

/// A dead letter as administrators see it.
#[derive(Clone, Debug)]
pub struct DeadLetterRecord {
    /// Names it.
    pub dead_letter_id: Uuid,
    /// What it is.
    pub kind: DeadLetterKind,
    /// The request it is about.
    pub request_id: Option<RequestId>,
    /// Its agent.
    pub agent_id: Option<AgentId>,
    /// Why it was set aside.
    pub cause: String,
    /// How often it was tried.
    pub attempts: i32,
    /// Code of the last error.
    pub error_code: Option<String>,
    /// Message of the last error.
    pub error_message: Option<String>,
    /// When it was first due.
    pub first_at: DateTime<Utc>,
    /// When it was set aside.
    pub last_at: DateTime<Utc>,
    /// When it was put right.
    pub resolved_at: Option<DateTime<Utc>>,
    /// How.
    pub resolution: Option<Resolution>,
    /// By whom.
    pub resolved_by: Option<String>,
    /// The reason given.
    pub resolve_reason: Option<String>,
}

/// Which dead letters are asked for.
#[derive(Clone, Debug)]
pub struct DeadLetterFilter<'a> {
    /// Only open ones, only resolved ones; `None`: both.
    pub is_open: Option<bool>,
    /// Of these kinds; none: of all.
    pub kinds: &'a [DeadLetterKind],
    /// Of these agents; none: of all.
    pub agent_ids: &'a [AgentId],
    /// What comes after it.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    /// At most so many.
    pub limit: i64,
}

/// An event that the stream will not take, or has refused this time.
#[derive(Clone, Debug)]
pub struct RefusedEvent {
    /// Its request.
    pub request_id: RequestId,
    /// Its chain entry.
    pub seq: i32,
    /// What the stream said.
    pub error: String,
    /// It will say so for ever.
    pub is_final: bool,
}

impl Store {
    /// Dead letters, the newest first.
    pub async fn dead_letters(&self, filter: &DeadLetterFilter<'_>) -> Result<Vec<DeadLetterRecord>> {
        run!(self, connection => sqlx::query_as!(
                DeadLetterRecord,
                r#"/* relaytrace: dead_letters */
                SELECT dead_letter_id, kind AS "kind: DeadLetterKind", request_id AS "request_id: RequestId",
                    agent_id AS "agent_id: AgentId", cause, attempts, error_code, error_message, first_at, last_at,
                    resolved_at, resolution AS "resolution: Resolution", resolved_by, resolve_reason
                FROM dead_letters
                WHERE ($1::boolean IS NULL OR (resolved_at IS NULL) = $1)
                    AND (cardinality($2::text[]) = 0 OR kind = ANY ($2))
                    AND (cardinality($3::text[]) = 0 OR agent_id = ANY ($3))
                    AND ($4::timestamptz IS NULL OR (last_at, dead_letter_id) < ($4, $5::uuid))
                ORDER BY last_at DESC, dead_letter_id DESC LIMIT $6"#,
                filter.is_open,
                filter.kinds as &[DeadLetterKind],
                filter.agent_ids as &[AgentId],
                filter.after.map(|(at, _)| at),
                filter.after.map(|(_, id)| id),
                filter.limit,
            )
            .fetch_all(connection))
    }

    async fn dead_letter(&self, dead_letter_id: Uuid) -> Result<DeadLetterRecord> {
        run!(self, connection => sqlx::query_as!(
                DeadLetterRecord,
                r#"SELECT dead_letter_id, kind AS "kind: DeadLetterKind", request_id AS "request_id: RequestId",
                    agent_id AS "agent_id: AgentId", cause, attempts, error_code, error_message, first_at, last_at,
                    resolved_at, resolution AS "resolution: Resolution", resolved_by, resolve_reason
                FROM dead_letters WHERE dead_letter_id = $1"#,
                dead_letter_id,
            )
            .fetch_optional(connection))?
        .ok_or(Error::NotFound)
    }

    /// Tries again what a dead letter is about: a delivery is ready at once, an event goes back into the outbox, the
    /// sweep takes its item up again. Gives the dead letter as it stands, and the event of a delivery.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] where it was resolved otherwise.
    pub async fn retry_dead_letter(
        &self,
        dead_letter_id: Uuid,
        actor: &Actor,
        longest_age: f64,
        traceparent: Option<&str>,
    ) -> Result<(DeadLetterRecord, Option<OutboxEvent>)> {
        let standing = self.dead_letter(dead_letter_id).await?;
        let event = match (standing.kind, standing.resolved_at) {
            (_, Some(_)) => None,
            (DeadLetterKind::Delivery, None) => {
                self.redeliver_dead_letter(dead_letter_id, actor, longest_age, traceparent).await?
            }
            (DeadLetterKind::Event | DeadLetterKind::Sweep, None) => {
                self.take_up_again(dead_letter_id, actor).await?;
                None
            }
        };
        let dead_letter = self.dead_letter(dead_letter_id).await?;
        match dead_letter.resolution {
            Some(Resolution::Retried) => Ok((dead_letter, event)),
            Some(_) => Err(Error::Conflict("the dead letter was resolved otherwise")),
            None => Err(Error::Conflict("what the dead letter is about is not dead-lettered any more")),
        }
    }

    /// The event is published by the next sweep, the item done by it.
    async fn take_up_again(&self, dead_letter_id: Uuid, actor: &Actor) -> Result<()> {
        run!(self, connection => sqlx::query!(
                "/* relaytrace: take_up_again */
                WITH resolved AS (
                    UPDATE dead_letters x
                    SET resolved_at = COALESCE($1::timestamptz, now()), resolution = 'retried', resolved_by = $3
                    WHERE x.dead_letter_id = $2 AND x.kind IN ('event', 'sweep') AND x.resolved_at IS NULL
                    RETURNING x.*
                ), cleared AS (
                    DELETE FROM sweep_failures f USING resolved x
                    WHERE x.kind = 'sweep' AND f.part = x.sweep_part AND f.request_id = x.request_id
                )
                INSERT INTO outbox (request_id, seq, kind, agent_id, payload, created_at, claimed_until)
                SELECT request_id, event_seq, event_kind, agent_id, event_payload, first_at, resolved_at
                FROM resolved WHERE kind = 'event'
                ON CONFLICT (request_id, seq) DO NOTHING",
                self.clock().for_database(),
                dead_letter_id,
                &actor.id,
            )
            .execute(connection))?;
        Ok(())
    }

    /// Gives up what a dead letter is about. The decision stays, its agent can still read it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] where it was resolved otherwise.
    pub async fn discard_dead_letter(
        &self,
        dead_letter_id: Uuid,
        actor: &Actor,
        reason: &str,
    ) -> Result<DeadLetterRecord> {
        run!(self, connection => sqlx::query!(
                "/* relaytrace: discard_dead_letter */
                UPDATE dead_letters
                SET resolved_at = COALESCE($1::timestamptz, now()), resolution = 'discarded', resolved_by = $3,
                    resolve_reason = $4
                WHERE dead_letter_id = $2 AND resolved_at IS NULL",
                self.clock().for_database(),
                dead_letter_id,
                &actor.id,
                reason,
            )
            .execute(connection))?;
        let dead_letter = self.dead_letter(dead_letter_id).await?;
        match dead_letter.resolution {
            Some(Resolution::Discarded) => Ok(dead_letter),
            _ => Err(Error::Conflict("the dead letter was resolved otherwise")),
        }
    }

    /// Notes what the stream has refused. An event that it will never take, or has refused too often, becomes a
    /// dead letter; the others wait, longer each time, and hold up nothing behind them.
    pub async fn refuse_events(&self, refused: &[RefusedEvent]) -> Result<()> {
        let ids: Vec<_> = refused.iter().map(|event| event.request_id.0).collect();
        let sequence: Vec<_> = refused.iter().map(|event| event.seq).collect();
        let errors: Vec<_> = refused.iter().map(|event| event.error.clone()).collect();
        let finals: Vec<_> = refused.iter().map(|event| event.is_final).collect();
        run!(self, connection => sqlx::query!(
                "/* relaytrace: refuse_events */
                WITH refused AS (
                    SELECT o.request_id, o.seq, p.error, p.is_final OR o.refusals + 1 >= $6::integer AS is_final
                    FROM UNNEST($2::uuid[], $3::integer[], $4::text[], $5::boolean[])
                        AS p (request_id, seq, error, is_final)
                    JOIN outbox o ON o.request_id = p.request_id AND o.seq = p.seq
                    ORDER BY o.request_id, o.seq
                    FOR NO KEY UPDATE OF o
                ), delayed AS (
                    UPDATE outbox o
                    SET refusals = o.refusals + 1,
                        claimed_until = COALESCE($1::timestamptz, now()) + (o.refusals + 1) * make_interval(secs => $7::double precision)
                    FROM refused r WHERE o.request_id = r.request_id AND o.seq = r.seq AND NOT r.is_final
                ), removed AS (
                    DELETE FROM outbox o USING refused r
                    WHERE o.request_id = r.request_id AND o.seq = r.seq AND r.is_final
                    RETURNING o.*, r.error
                )
                INSERT INTO dead_letters (dead_letter_id, kind, request_id, agent_id, cause, attempts, error_message,
                    first_at, last_at, event_seq, event_kind, event_payload)
                SELECT gen_random_uuid(), 'event', request_id, agent_id, 'unpublishable', refusals + 1, error,
                    created_at, GREATEST(created_at, COALESCE($1::timestamptz, now())), seq, kind, payload
                FROM removed",
                self.clock().for_database(),
                &ids,
                &sequence,
                &errors,
                &finals,
                Failure::EventRefused.tries().cast_signed(),
                Failure::EventRefused.pause().as_secs_f64(),
            )
            .execute(connection))?;
        Ok(())
    }
}
