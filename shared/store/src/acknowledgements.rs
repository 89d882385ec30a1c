//! Acknowledgements of deliveries.

use uuid::Uuid;

use crate::batches::{Row, column, in_key_order, in_order};
use crate::database::Database;
use crate::measures::BatchKind;
use crate::{Caller, OutboxEvent};
use relaytrace_domain::Failure;
use relaytrace_domain::{AckResult, DeliveryState, RequestId};
use relaytrace_domain::{Error, Result};

/// The result of an acknowledgement.
#[derive(Clone, Debug)]
pub struct Acked {
    /// The delivery's state after it.
    pub state: DeliveryState,
    /// The acknowledged attempt.
    pub attempt: i32,
    /// The event, if the delivery reached a final state.
    pub event: Option<OutboxEvent>,
}

/// An acknowledgement of the latest attempt.
#[derive(Clone, Debug)]
pub struct Ack {
    /// The acknowledging agent and key.
    pub caller: Caller,
    /// The decided request.
    pub request_id: RequestId,
    /// The latest attempt's id; anything else is stale. `None`, with `accepted` only: whichever it is.
    pub delivery_id: Option<Uuid>,
    /// The result that the agent reports.
    pub result: AckResult,
    /// Its error's code.
    pub error_code: Option<String>,
    /// Its error's message.
    pub error_message: Option<String>,
    /// W3C trace context of the call.
    pub traceparent: Option<String>,
}

impl Row for Ack {
    type Written = Acked;
    type Key<'a> = RequestId;
    const KIND: BatchKind = BatchKind::Acknowledge;

    fn key(&self) -> RequestId {
        self.request_id
    }

    fn size(&self) -> usize {
        256 + self.error_message.as_ref().map_or(0, String::len)
    }

    /// The one statement of an acknowledgement. Written over arrays; on Lambda they hold one.
    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<Acked>>> {
        let sent = &in_key_order(rows);
        let acked = database
            .all(|| {
                sqlx::query_file!(
                    "sql/acknowledge.sql",
                    database.clock().for_database(),
                    &column(sent, |row| row.request_id.0),
                    &column(sent, |row| row.delivery_id) as &[Option<Uuid>],
                    &column(sent, |row| row.caller.agent_id.as_str()) as &[&str],
                    &column(sent, |row| row.caller.key_id.as_str()) as &[&str],
                    &column(sent, |row| row.result) as &[AckResult],
                    &column(sent, |row| row.error_code.as_deref()) as &[Option<&str>],
                    &column(sent, |row| row.error_message.as_deref()) as &[Option<&str>],
                    &column(sent, |row| row.traceparent.as_deref()) as &[Option<&str>],
                    database.rules.max_attempts,
                    Failure::DeliveryRetried.pause().as_secs_f64(),
                )
            })
            .await?;
        let acked = in_order(rows, |row| row.request_id, acked.into_iter().map(|acked| (acked.request_id, acked)));
        let told = rows.iter().zip(acked).map(|(row, acked)| {
            let acked = acked?;
            let event = match (acked.seq, acked.kind, acked.payload) {
                (Some(seq), Some(kind), Some(payload)) => Some(OutboxEvent {
                    request_id: row.request_id,
                    seq,
                    kind,
                    agent_id: row.caller.agent_id.clone(),
                    payload,
                    traceparent: row.traceparent.clone(),
                }),
                _ => None,
            };
            Some(Acked { state: acked.state, attempt: acked.attempt, event })
        });
        Ok(told.collect())
    }
}

impl Database {
    /// Why an acknowledgement changed nothing: it was said before, or is not of the latest attempt.
    pub(crate) async fn acknowledged_before(&self, ack: &Ack) -> Result<Acked> {
        self.request_alone(&ack.caller, ack.request_id).await?;
        let said = self
            .optional(|| sqlx::query_file!("sql/acknowledged_before.sql", ack.request_id.0, ack.delivery_id))
            .await?
            .ok_or(match ack.delivery_id {
                Some(_) => Error::StaleDelivery,
                None => Error::Conflict("the request is not decided: there is nothing to acknowledge"),
            })?;
        match said.result {
            _ if said.is_consumed && ack.result != AckResult::Accepted => Err(Error::AlreadyConsumed),
            _ if said.is_consumed => Ok(Acked { state: said.state, attempt: said.attempt, event: None }),
            _ if said.is_to_be_consumed
                && ack.result == AckResult::Accepted
                && said.state != DeliveryState::Acknowledged =>
            {
                Err(Error::NotConsumed)
            }
            // Said before, or something that no longer counts: the state as it stands.
            Some(_) => Ok(Acked { state: said.state, attempt: said.attempt, event: None }),
            None => Err(Error::StaleDelivery),
        }
    }
}
