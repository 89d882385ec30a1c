//! Deliveries: leased by polls, dead-lettered.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::database::Database;
use crate::{Caller, OutboxEvent};
use relaytrace_domain::Result;
use relaytrace_domain::signing::StoredDecision;
use relaytrace_domain::{AgentId, ClientRequestKey, Digest, Permit, RequestId, Written};

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
