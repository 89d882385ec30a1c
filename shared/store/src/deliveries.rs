//! Deliveries: leased by polls, dead-lettered.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::chain::digest;
use crate::database::Database;
use crate::{Caller, OutboxEvent};
use relaytrace_domain::Failure;
use relaytrace_domain::signing::StoredDecision;
use relaytrace_domain::{AgentId, ClientRequestKey, Digest, Permit, RequestId, Written};
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
    /// The exact bytes of the `submitted` entry.
    pub submitted: Vec<u8>,
    /// Hash of the `submitted` entry.
    pub submitted_hash: Digest,
    /// It was stored before decisions were attested.
    pub is_from_before: bool,
    /// The bytes of the envelope's `resume`.
    pub resume: Option<Vec<u8>>,
    /// Until when the approval may be used.
    pub permit: Option<Permit>,
    /// What the operator wrote instead of a plain yes.
    pub written: Option<Written>,
    /// How often it was handed out, this time included.
    pub attempt: i32,
    /// An administrator sent it out again.
    pub replayed: bool,
    /// The lease of a poll; `None` where it was only looked at.
    pub lease: Option<(Uuid, DateTime<Utc>)>,
}

impl Delivered {
    /// The stored entry that the receipt is made from.
    #[must_use]
    pub fn stored_decision(&self) -> StoredDecision<'_> {
        StoredDecision {
            request_id: self.request_id,
            client_request_key: &self.client_request_key,
            action_type: &self.action_type,
            entry: &self.entry,
            prev_hash: self.prev_hash,
            hash: self.hash,
            submitted: &self.submitted,
            submitted_hash: self.submitted_hash,
            permit: self.permit,
            is_from_before: self.is_from_before,
            written: self.written.as_ref(),
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
    /// How long the poll would wait: what becomes visible later is not looked for.
    pub look_ahead: Duration,
}

/// What a poll got.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The database's time.
    pub polled_at: DateTime<Utc>,
    /// The leased deliveries, in the order in which they became due.
    pub deliveries: Vec<Delivered>,
    /// More was due.
    pub has_more: bool,
    /// When the next delivery of this agent becomes due, if nothing was and it does so within the time looked ahead.
    pub next_visible_at: Option<DateTime<Utc>>,
}

impl Database {
    /// Leases due deliveries for a poll. Concurrent polls get disjoint sets.
    ///
    /// The lease is committed asynchronously: a lease lost in a crash only causes a redelivery.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active.
    pub(super) async fn lease_now(&self, order: &LeaseOrder<'_>) -> Result<Leased> {
        let agent_id = &order.caller.agent_id;
        // A poll that names its requests does not scan.
        let begin = || self.due.begin(agent_id, self.clock().now(), self.connections.unseen_ends());
        let scan = order.request_ids.is_none().then(begin);
        let rows = self
            .all_for_polls(|| {
                sqlx::query_file!(
                    "sql/lease.sql",
                    self.clock().for_database(),
                    order.caller.key_id.as_str(),
                    order.caller.agent_id.as_str(),
                    order.limit,
                    order.request_ids,
                    self.rules.lease_seconds,
                    self.rules.max_attempts,
                    Failure::DeliveryUnacknowledged.pause().as_secs_f64(),
                    scan.as_ref().and_then(|scan| scan.from),
                    order.look_ahead.as_secs_f64(),
                )
            })
            .await?;
        let Some(first) = rows.first() else {
            return Err(Error::Unauthenticated("the key is revoked or its agent disabled"));
        };
        if let Some(scan) = scan {
            scan.record(first.now, first.first_visible_at);
        }
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
                submitted: row.submitted.unwrap_or_default(),
                submitted_hash: digest(row.submitted_hash.unwrap_or_default())?,
                is_from_before: row.is_from_before.unwrap_or_default(),
                resume: row.resume,
                permit: row.permit_expires_at.map(Permit::from),
                written: Written::stored(row.written_action, row.written_response)?,
                attempt: row.attempt.unwrap_or_default(),
                replayed: row.replayed.unwrap_or_default(),
                lease: Some((delivery_id, until)),
            });
        }
        Ok(leased)
    }

    /// Dead-letters up to `limit` deliveries that are out of attempts or too old, or only `only` of them. Safe when
    /// overlapping.
    pub async fn dead_letter_exhausted(&self, limit: i64, only: Option<RequestId>) -> Result<Vec<OutboxEvent>> {
        self.all(|| {
            sqlx::query_file_as!(
                OutboxEvent,
                "sql/dead_letter_exhausted.sql",
                self.clock().for_database(),
                limit,
                self.rules.max_attempts,
                only.map(|id| id.0),
            )
        })
        .await
    }
}
