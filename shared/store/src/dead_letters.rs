//! Dead letters: failed work that waits for an administrator.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::database::Database;
use crate::{OutboxEvent, Scope};
use relaytrace_domain::Failure;
use relaytrace_domain::{ActorKind, AgentId, ChannelId, DeadLetterKind, RequestId, Resolution};
use relaytrace_domain::{Error, Result};

/// A dead letter as administrators see it.
#[derive(Clone, Debug)]
pub struct DeadLetterRecord {
    /// The dead letter's id.
    pub dead_letter_id: Uuid,
    /// The kind of work that failed.
    pub kind: DeadLetterKind,
    /// The request it is about.
    pub request_id: Option<RequestId>,
    /// Its agent.
    pub agent_id: Option<AgentId>,
    /// Of a notification: the channel; `None`: the agent's push.
    pub channel_id: Option<ChannelId>,
    /// Of a notification: why it was to be told.
    pub notice: Option<String>,
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
    /// How it was resolved; `None`: it is open.
    pub resolution: Option<Resolution>,
    /// The administrator, or the agent, that resolved it.
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
    /// The position of the last item: the next page begins after it.
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
    /// The stream's error.
    pub error: String,
    /// It will say so for ever.
    pub is_final: bool,
}

impl Database {
    /// Dead letters, the newest first.
    pub async fn dead_letters(&self, scope: &Scope, filter: &DeadLetterFilter<'_>) -> Result<Vec<DeadLetterRecord>> {
        self.all(|| {
            sqlx::query_file_as!(
                DeadLetterRecord,
                "sql/dead_letters.sql",
                filter.is_open,
                filter.kinds as &[DeadLetterKind],
                filter.agent_ids as &[AgentId],
                filter.after.map(|(at, _)| at),
                filter.after.map(|(_, id)| id),
                filter.limit,
                scope.tenant.as_str(),
            )
        })
        .await
    }

    async fn dead_letter(&self, scope: &Scope, dead_letter_id: Uuid) -> Result<DeadLetterRecord> {
        self.optional(|| {
            sqlx::query_file_as!(DeadLetterRecord, "sql/dead_letter.sql", dead_letter_id, scope.tenant.as_str())
        })
        .await?
        .ok_or(Error::NotFound)
    }

    /// Tries again what a dead letter is about: a delivery is ready at once, an event goes back into the outbox, the
    /// sweep takes its item up again, a notification is due. Gives the dead letter as it stands, and the event of a delivery.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] where it was resolved otherwise.
    pub async fn retry_dead_letter(
        &self,
        scope: &Scope,
        dead_letter_id: Uuid,
        traceparent: Option<&str>,
    ) -> Result<(DeadLetterRecord, Option<OutboxEvent>)> {
        let standing = self.dead_letter(scope, dead_letter_id).await?;
        let event = match (standing.kind, standing.request_id, standing.resolved_at) {
            (_, _, Some(_)) => None,
            (DeadLetterKind::Delivery, Some(request_id), None) => {
                self.redeliver(scope, request_id, Some(dead_letter_id), None, traceparent).await?
            }
            _ => {
                self.take_up_again(scope, dead_letter_id).await?;
                None
            }
        };
        let dead_letter = self.dead_letter(scope, dead_letter_id).await?;
        match dead_letter.resolution {
            Some(Resolution::Retried) => Ok((dead_letter, event)),
            Some(_) => Err(Error::Conflict("the dead letter was resolved otherwise")),
            None => Err(Error::Conflict("what the dead letter is about is not dead-lettered any more")),
        }
    }

    /// The event is published by the next sweep, the item done by it.
    async fn take_up_again(&self, scope: &Scope, dead_letter_id: Uuid) -> Result<()> {
        self.execute(|| {
            sqlx::query_file!(
                "sql/take_up_again.sql",
                self.clock().for_database(),
                dead_letter_id,
                &scope.actor.id,
                scope.tenant.as_str(),
                scope.actor.kind as ActorKind,
                scope.actor.name.as_deref(),
            )
        })
        .await?;
        Ok(())
    }

    /// Discards a dead letter. The decision stays, and its agent can still read it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] where it was resolved otherwise.
    pub async fn discard_dead_letter(
        &self,
        scope: &Scope,
        dead_letter_id: Uuid,
        reason: &str,
    ) -> Result<DeadLetterRecord> {
        self.execute(|| {
            sqlx::query_file!(
                "sql/discard_dead_letter.sql",
                self.clock().for_database(),
                dead_letter_id,
                &scope.actor.id,
                reason,
                scope.tenant.as_str(),
                scope.actor.kind as ActorKind,
                scope.actor.name.as_deref(),
            )
        })
        .await?;
        let dead_letter = self.dead_letter(scope, dead_letter_id).await?;
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
        self.execute(|| {
            sqlx::query_file!(
                "sql/refuse_events.sql",
                self.clock().for_database(),
                &ids,
                &sequence,
                &errors,
                &finals,
                Failure::EventRefused.tries().cast_signed(),
                Failure::EventRefused.pause().as_secs_f64(),
            )
        })
        .await?;
        Ok(())
    }
}
