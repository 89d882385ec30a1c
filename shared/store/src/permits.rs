//! Permits: an approval is used once, and its outcome is recorded (contract, "Permits").

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::batches::{Row, column, in_order};
use crate::database::Database;
use crate::measures::BatchKind;
use crate::{Caller, OutboxEvent};
use relaytrace_domain::{AgentId, ConsumeKey, Digest, Error, Note, Reported, RequestId, Result, Timestamp};

/// An attempt to use a permit.
#[derive(Clone, Debug)]
pub struct Consuming {
    /// The caller that is going to run the action.
    pub caller: Caller,
    /// The approved request.
    pub request_id: RequestId,
    /// Names the attempt: the same key by the same caller is the same use.
    pub consume_key: ConsumeKey,
    /// The action that is going to run.
    pub action_digest: Digest,
    /// By the scope `execute-any`: of the agents and action types that the key names.
    pub is_any: bool,
    /// Whether a bridge says so for a caller whose protocol has no digest.
    pub is_assumed: bool,
    /// W3C trace context of the call.
    pub traceparent: Option<String>,
}

/// A permit that is used.
#[derive(Clone, Debug)]
pub struct Consumed {
    /// Who asked.
    pub agent_id: AgentId,
    /// The action that was approved.
    pub action_digest: Digest,
    /// When it was used.
    pub consumed_at: DateTime<Utc>,
    /// The key that used it.
    pub consumed_by: String,
    /// Its event; `None` where this attempt had used it before.
    pub event: Option<OutboxEvent>,
}

/// What an executor says of its use of a permit.
#[derive(Clone, Debug)]
pub struct Reporting {
    /// Who used the permit, or the agent that asked.
    pub caller: Caller,
    /// The request.
    pub request_id: RequestId,
    /// How it went.
    pub state: Reported,
    /// In their words.
    pub note: Option<Note>,
    /// Of what proves it.
    pub evidence: Option<Digest>,
    /// By the scope `execute-any`: of the agents and action types that the key names.
    pub is_any: bool,
    /// W3C trace context of the call.
    pub traceparent: Option<String>,
}

/// An outcome on record.
#[derive(Clone, Debug)]
pub struct Noted {
    /// Who asked.
    pub agent_id: AgentId,
    /// When it was reported.
    pub reported_at: DateTime<Utc>,
    /// Its event; `None` where the same was reported before.
    pub event: Option<OutboxEvent>,
}

/// What both statements give of a row that they have written.
struct Written {
    request_id: RequestId,
    agent_id: AgentId,
    at: DateTime<Utc>,
    seq: i32,
    payload: Vec<u8>,
}

impl Written {
    fn event(self, kind: &str, traceparent: Option<&String>) -> OutboxEvent {
        OutboxEvent {
            request_id: self.request_id,
            seq: self.seq,
            kind: kind.into(),
            agent_id: self.agent_id,
            payload: self.payload,
            traceparent: traceparent.cloned(),
        }
    }
}

impl Row for Consuming {
    type Written = Consumed;
    type Key<'a> = RequestId;
    const KIND: BatchKind = BatchKind::Consume;

    fn key(&self) -> RequestId {
        self.request_id
    }

    fn size(&self) -> usize {
        512
    }

    /// The one statement of consumes. Written over arrays; on Lambda they hold one.
    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<Consumed>>> {
        let written = database
            .all(|| {
                sqlx::query_file_as!(
                    Written,
                    "sql/consume.sql",
                    database.clock().for_database(),
                    database.permits.outcome_seconds,
                    &column(rows, |row| row.request_id.0),
                    &column(rows, |row| row.caller.agent_id.as_str()) as &[&str],
                    &column(rows, |row| row.caller.key_id.as_str()) as &[&str],
                    &column(rows, |row| row.consume_key.as_str()) as &[&str],
                    &column(rows, |row| row.action_digest.0.as_slice()) as &[&[u8]],
                    &column(rows, |row| row.traceparent.as_deref()) as &[Option<&str>],
                    &column(rows, |row| row.is_any),
                    &column(rows, |row| row.is_assumed),
                )
            })
            .await?;
        let written = in_order(rows, |row| row.request_id, written.into_iter().map(|row| (row.request_id, row)));
        let consumed = rows.iter().zip(written).map(|(row, written)| {
            let written = written?;
            Some(Consumed {
                agent_id: written.agent_id.clone(),
                action_digest: row.action_digest,
                consumed_at: written.at,
                consumed_by: row.caller.key_id.to_string(),
                event: Some(written.event("consumed", row.traceparent.as_ref())),
            })
        });
        Ok(consumed.collect())
    }
}

impl Row for Reporting {
    type Written = Noted;
    type Key<'a> = RequestId;
    const KIND: BatchKind = BatchKind::Outcome;

    fn key(&self) -> RequestId {
        self.request_id
    }

    fn size(&self) -> usize {
        512 + self.note.as_ref().map_or(0, |note| note.as_str().len())
    }

    /// The one statement of outcomes. Written over arrays; on Lambda they hold one.
    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<Noted>>> {
        let written = database
            .all(|| {
                sqlx::query_file_as!(
                    Written,
                    "sql/report_outcome.sql",
                    database.clock().for_database(),
                    &column(rows, |row| row.request_id.0),
                    &column(rows, |row| row.caller.agent_id.as_str()) as &[&str],
                    &column(rows, |row| row.caller.key_id.as_str()) as &[&str],
                    &column(rows, |row| row.state) as &[Reported],
                    &column(rows, |row| row.note.as_ref().map(Note::as_str)) as &[Option<&str>],
                    &column(rows, |row| row.evidence.as_ref().map(|digest| digest.0.as_slice())) as &[Option<&[u8]>],
                    &column(rows, |row| row.traceparent.as_deref()) as &[Option<&str>],
                    &column(rows, |row| row.is_any),
                )
            })
            .await?;
        let written = in_order(rows, |row| row.request_id, written.into_iter().map(|row| (row.request_id, row)));
        let noted = rows.iter().zip(written).map(|(row, written)| {
            let written = written?;
            Some(Noted {
                agent_id: written.agent_id.clone(),
                reported_at: written.at,
                event: Some(written.event("outcome", row.traceparent.as_ref())),
            })
        });
        Ok(noted.collect())
    }
}

/// What an `outcome` entry says beside its actor.
#[derive(Deserialize)]
struct OutcomeEntry {
    state: String,
    note: Option<String>,
    evidence_sha256: Option<String>,
}

impl Database {
    /// Says of up to `limit` used permits, or only of `only`, that their outcome is unknown: nobody has reported it in time.
    /// Safe when overlapping.
    pub async fn outcomes_unknown(&self, limit: i64, only: Option<RequestId>) -> Result<Vec<OutboxEvent>> {
        self.all(|| {
            sqlx::query_file_as!(
                OutboxEvent,
                "sql/outcomes_unknown.sql",
                self.clock().for_database(),
                limit,
                only.map(|id| id.0),
            )
        })
        .await
    }

    /// Why a permit was not used: this attempt had used it before, or the first error that applies. `None`: what stood in
    /// the way is gone.
    pub(crate) async fn consumed_before(&self, consuming: &Consuming) -> Result<Option<Consumed>> {
        let Caller { agent_id, key_id } = &consuming.caller;
        let found = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/consume_standing.sql",
                    self.clock().for_database(),
                    key_id.as_str(),
                    agent_id.as_str(),
                    consuming.request_id.0,
                    consuming.is_any,
                )
            })
            .await?
            .ok_or(Error::Unauthenticated("the key is revoked or its agent disabled"))?;
        let agent_id = found.agent_id.ok_or(Error::NotFound)?;
        if let (Some(consumed_at), Some(consumed_by)) = (found.consumed_at, found.consumed_by) {
            let is_same =
                consumed_by == key_id.as_str() && found.consume_key.as_deref() == Some(consuming.consume_key.as_str());
            if !is_same {
                return Err(Error::AlreadyConsumed);
            }
            // What was used, whatever this call says that it is: the caller compares.
            let approved = found.approved_digest.as_deref().unwrap_or_default();
            let action_digest = approved.parse().map_err(Error::internal)?;
            return Ok(Some(Consumed { agent_id, action_digest, consumed_at, consumed_by, event: None }));
        }
        let expires_at = found.permit_expires_at.ok_or(Error::NotApproved)?;
        if found.approved_digest != Some(consuming.action_digest.to_string()) {
            return Err(Error::ActionMismatch);
        }
        match (found.is_revoked, found.is_held, found.is_over) {
            (true, _, _) => Err(Error::PermitRevoked),
            (_, true, _) => Err(Error::Frozen),
            (_, _, true) => Err(Error::PermitExpired { expires_at: Timestamp(expires_at) }),
            (false, false, false) => Ok(None),
        }
    }

    /// Why an outcome was not noted: the same was reported before, or the error that it is. `None`: what stood in the way
    /// is gone.
    pub(crate) async fn reported_before(&self, reporting: &Reporting) -> Result<Option<Noted>> {
        let Caller { agent_id, key_id } = &reporting.caller;
        let found = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/outcome_standing.sql",
                    key_id.as_str(),
                    agent_id.as_str(),
                    reporting.request_id.0,
                    reporting.is_any,
                )
            })
            .await?
            .ok_or(Error::Unauthenticated("the key is revoked or its agent disabled"))?;
        let agent_id = found.agent_id.ok_or(Error::NotFound)?;
        if found.consumed_at.is_none() {
            return Err(Error::NotConsumed);
        }
        if !found.may_report {
            return Err(Error::Forbidden("another has used the approval: it reports, or the agent that asked"));
        }
        let (Some(entry), Some(reported_at)) = (found.entry, found.at) else { return Ok(None) };
        let said: OutcomeEntry = serde_json::from_slice(&entry).map_err(Error::internal)?;
        let is_same = said.state == reporting.state.as_str()
            && said.note.as_deref() == reporting.note.as_ref().map(Note::as_str)
            && said.evidence_sha256 == reporting.evidence.map(|digest| digest.to_string());
        match said.state.as_str() {
            _ if is_same => Ok(Some(Noted { agent_id, reported_at, event: None })),
            "unknown" => Ok(None),
            _ => Err(Error::OutcomeConflict),
        }
    }
}
