//! Submission of requests.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::batches::{Row, column, in_order};
use crate::database::Database;
use crate::decided_at_once::DecidedAtOnce;
use crate::deliveries::Delivered;
use crate::judging::Ruling;
use crate::measures::BatchKind;
use crate::{Caller, OutboxEvent};
use relaytrace_domain::rules::RuleOf;
use relaytrace_domain::{
    AgentId, Approvals, ClientRequestKey, Digest, Execution, Faults, GroupKey, Priority, Protocol, RequestId, Status,
    Submission, TenantId, without_case,
};
use relaytrace_domain::{Error, Result};

/// A request as its agent sees it.
#[derive(Clone, Debug)]
pub struct RequestState {
    /// Who asked.
    pub agent_id: AgentId,
    /// The request.
    pub request_id: RequestId,
    /// The agent's own key.
    pub client_request_key: ClientRequestKey,
    /// Pending or decided.
    pub status: Status,
    /// As it now stands.
    pub priority: Priority,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// As it now stands.
    pub respond_by: DateTime<Utc>,
    /// Of its action.
    pub action_digest: Digest,
    /// What became of its approval.
    pub execution: Execution,
    /// Approvals of operators, as they now stand.
    pub approvals: Approvals,
    /// The rule that applied.
    pub rule: Option<RuleOf>,
}

/// What became of a submission.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// A new request, and its event.
    Created(RequestState, OutboxEvent),
    /// A new request that a rule has decided.
    Decided(Box<DecidedAtOnce>),
    /// The same key and envelope were submitted before: the request as it now stands, with its decision.
    Duplicate(RequestState, Option<Box<Delivered>>),
}

/// How submissions are taken.
#[derive(Clone, Copy, Debug)]
pub struct Taking {
    /// How long a key is kept at the least, in seconds; the same for all of a deployment.
    pub kept_seconds: f64,
    /// Whether rules may approve.
    pub may_approve: bool,
    /// Whether the answer carries a decision that a rule makes: its delivery is leased to it.
    pub is_leased: bool,
}

/// What stood in the way of a submission.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// Its key stands for this request.
    Request(RequestId),
    /// It is to be asked with this priority.
    Priority(Priority),
    /// Its tenant's rules have this version.
    Rules(TenantId, Option<i32>),
    /// It is gone.
    Nothing,
}

/// A submission that waits for its statement.
#[derive(Debug)]
pub(crate) struct Submitting {
    pub(crate) request_id: RequestId,
    pub(crate) caller: Caller,
    pub(crate) submission: Arc<Submission>,
    pub(crate) kept_seconds: f64,
    pub(crate) traceparent: Option<String>,
    /// What the rules say of it; `None`: none are known.
    pub(crate) ruling: Option<Ruling>,
}

/// What the statement gives of a row that it has inserted.
struct Inserted {
    request_id: RequestId,
    created_at: DateTime<Utc>,
    respond_by: DateTime<Utc>,
    approvals: Option<i16>,
    payload: Vec<u8>,
}

impl Submitting {
    fn created(&self, inserted: Inserted) -> Result<Submitted> {
        let event = self.event(1, "requested", inserted.payload);
        let approvals = Approvals::stored(inserted.approvals, None, None)?;
        Ok(Submitted::Created(self.state(inserted.created_at, inserted.respond_by, approvals), event))
    }

    /// One of its events.
    pub(crate) fn event(&self, seq: i32, kind: &str, payload: Vec<u8>) -> OutboxEvent {
        OutboxEvent {
            request_id: self.request_id,
            seq,
            kind: kind.into(),
            agent_id: self.caller.agent_id.clone(),
            payload,
            traceparent: self.traceparent.clone(),
        }
    }

    /// The new request while it is pending.
    pub(crate) fn state(
        &self,
        created_at: DateTime<Utc>,
        respond_by: DateTime<Utc>,
        approvals: Approvals,
    ) -> RequestState {
        RequestState {
            agent_id: self.caller.agent_id.clone(),
            request_id: self.request_id,
            client_request_key: self.submission.envelope.client_request_key.clone(),
            status: Status::Pending,
            priority: self.priority(),
            created_at,
            respond_by,
            action_digest: self.submission.action_digest,
            execution: Execution::None,
            approvals,
            rule: self.ruling.as_ref().and_then(Ruling::rule),
        }
    }

    /// The rule's, or else the one that the agent asks with.
    pub(crate) fn priority(&self) -> Priority {
        self.ruling.as_ref().and_then(Ruling::priority).unwrap_or(self.submission.envelope.priority)
    }
}

/// What rules say of rows, by request; `None`: nothing of any.
fn rulings(rows: &[&Submitting]) -> Option<serde_json::Value> {
    let ruled = rows.iter().filter_map(|row| {
        let ruling = row.ruling.as_ref()?.row(row.submission.envelope.priority);
        Some((row.request_id.to_string(), ruling.into()))
    });
    let ruled: serde_json::Map<_, _> = ruled.collect();
    (!ruled.is_empty()).then_some(ruled.into())
}

/// What the statements of submissions take of their rows, an array each.
pub(crate) struct Columns<'a> {
    pub(crate) request_ids: Vec<Uuid>,
    pub(crate) agent_ids: Vec<&'a str>,
    pub(crate) key_ids: Vec<&'a str>,
    pub(crate) client_request_keys: Vec<&'a str>,
    pub(crate) fingerprints: Vec<&'a [u8]>,
    pub(crate) priorities: Vec<i16>,
    pub(crate) titles: Vec<&'a str>,
    pub(crate) action_types: Vec<&'a str>,
    pub(crate) action_digests: Vec<&'a [u8]>,
    pub(crate) respond_by: Vec<Option<DateTime<Utc>>>,
    pub(crate) envelopes: Vec<&'a [u8]>,
    pub(crate) resumes: Vec<Option<&'a [u8]>>,
    pub(crate) traceparents: Vec<Option<&'a str>>,
    pub(crate) kept_seconds: f64,
    pub(crate) answers: Vec<Option<String>>,
    pub(crate) groups: Vec<Option<&'a str>>,
    pub(crate) on_behalf_of: Vec<Option<String>>,
    pub(crate) permit_seconds: Vec<Option<i32>>,
    pub(crate) protocols: Vec<Option<Protocol>>,
    pub(crate) respond_within: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(rows: &[&'a Submitting]) -> Self {
        Self {
            request_ids: column(rows, |row| row.request_id.0),
            agent_ids: column(rows, |row| row.caller.agent_id.as_str()),
            key_ids: column(rows, |row| row.caller.key_id.as_str()),
            client_request_keys: column(rows, |row| row.submission.envelope.client_request_key.as_str()),
            fingerprints: column(rows, |row| row.submission.fingerprint.0.as_slice()),
            priorities: column(rows, |row| row.priority() as i16),
            titles: column(rows, |row| row.submission.envelope.title.as_str()),
            action_types: column(rows, |row| row.submission.envelope.action.action_type.as_str()),
            action_digests: column(rows, |row| row.submission.action_digest.0.as_slice()),
            respond_by: column(rows, |row| row.submission.envelope.respond_by.map(|by| by.0)),
            envelopes: column(rows, |row| row.submission.bytes.as_slice()),
            resumes: column(rows, |row| row.submission.resume.as_deref()),
            traceparents: column(rows, |row| row.traceparent.as_deref()),
            kept_seconds: rows.first().map_or(0.0, |row| row.kept_seconds),
            answers: column(rows, |row| row.submission.envelope.answers().column()),
            groups: column(rows, |row| row.submission.envelope.group.as_ref().map(GroupKey::as_str)),
            on_behalf_of: column(rows, |row| {
                row.submission.envelope.on_behalf_of.as_ref().map(|person| without_case(person.id.as_str()))
            }),
            permit_seconds: column(rows, |row| row.submission.envelope.permit_seconds.map(|seconds| seconds.0)),
            protocols: column(rows, |row| row.submission.bridged.map(|bridged| bridged.protocol)),
            respond_within: column(rows, |row| row.submission.bridged.and_then(|bridged| bridged.respond_within)),
        }
    }
}

impl Row for Submitting {
    type Written = Submitted;
    type Key<'a> = (&'a str, &'a str);
    const KIND: BatchKind = BatchKind::Submit;

    fn key(&self) -> Self::Key<'_> {
        (self.caller.agent_id.as_str(), self.submission.envelope.client_request_key.as_str())
    }

    fn size(&self) -> usize {
        self.submission.bytes.len() + self.submission.resume.as_ref().map_or(0, Vec::len)
    }

    /// The one statement of submissions. Written over arrays; on Lambda they hold one.
    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<Submitted>>> {
        let rulings = rulings(rows);
        let of = Columns::of(rows);
        let inserted = database
            .all(|| {
                sqlx::query_file_as!(
                    Inserted,
                    "sql/submit.sql",
                    database.clock().for_database(),
                    &of.request_ids,
                    &of.agent_ids as &[&str],
                    &of.key_ids as &[&str],
                    &of.client_request_keys as &[&str],
                    &of.fingerprints as &[&[u8]],
                    &of.priorities,
                    &of.titles as &[&str],
                    &of.action_types as &[&str],
                    &of.action_digests as &[&[u8]],
                    &of.respond_by as &[Option<DateTime<Utc>>],
                    &of.envelopes as &[&[u8]],
                    &of.resumes as &[Option<&[u8]>],
                    &of.traceparents as &[Option<&str>],
                    of.kept_seconds,
                    &of.answers as &[Option<String>],
                    &of.groups as &[Option<&str>],
                    &of.on_behalf_of as &[Option<String>],
                    &of.permit_seconds as &[Option<i32>],
                    database.permits.permit_seconds,
                    &of.protocols as &[Option<Protocol>],
                    &of.respond_within as &[Option<i64>],
                    rulings.as_ref(),
                )
            })
            .await?;
        let inserted = in_order(rows, |row| row.request_id, inserted.into_iter().map(|row| (row.request_id, row)));
        let created = rows.iter().zip(inserted).map(|(row, inserted)| {
            let Some(inserted) = inserted else { return Ok(None) };
            if inserted.approvals.is_none_or(|approvals| approvals == 1) {
                database.actions.insert(row.request_id, row.submission.action_digest);
            }
            row.created(inserted).map(Some)
        });
        created.collect()
    }
}

impl Database {
    /// Why nothing was inserted: the request that the key stands for, the version of the rules to judge it by, the priority
    /// that a bridge is to ask with, or the error that it is.
    pub(crate) async fn standing_request(&self, row: &Submitting) -> Result<Standing> {
        let (caller, submission) = (&row.caller, &row.submission);
        let envelope = &submission.envelope;
        let within = row.ruling.as_ref().and_then(|ruling| ruling.asks()?.respond_within_seconds);
        let found = self
            .one(|| {
                sqlx::query_file!(
                    "sql/standing_request.sql",
                    self.clock().for_database(),
                    caller.key_id.as_str(),
                    caller.agent_id.as_str(),
                    envelope.client_request_key.as_str(),
                    envelope.action.action_type.as_str(),
                    row.priority() as i16,
                    within.map(|seconds| seconds.0),
                )
            })
            .await?;
        if !found.active {
            return Err(Error::Unauthenticated("the key is revoked or its agent disabled"));
        }
        if let (Some(fingerprint), Some(request_id)) = (found.fingerprint, found.request_id) {
            let is_same = fingerprint == submission.fingerprint.0;
            return if is_same { Ok(Standing::Request(request_id)) } else { Err(Error::IdempotencyKeyReused) };
        }
        let is_behind = |version| version != row.ruling.as_ref().map(|ruling| ruling.version);
        if is_behind(found.rules_version) && !row.ruling.as_ref().is_some_and(|ruling| ruling.is_last) {
            return Ok(Standing::Rules(found.tenant_id, found.rules_version));
        }
        let mut faults = Faults::default();
        if let Some(lowest) = found.lowest_priority.filter(|lowest| envelope.priority > *lowest) {
            // Whoever speaks a protocol without priorities has not asked with one.
            if submission.bridged.is_some() {
                return Ok(Standing::Priority(lowest));
            }
            faults.add("/priority", format!("must be {lowest:?} or more urgent for this action type"));
        }
        match envelope.respond_by {
            Some(by) if by.0 <= found.now => faults.add("/respond_by", "must lie in the future"),
            Some(by) if by.0 > found.latest => {
                faults.add("/respond_by", "may shorten the time of the timeout policy, never lengthen it");
            }
            _ => {}
        }
        if faults.is_empty() { Ok(Standing::Nothing) } else { Err(faults.into()) }
    }

    /// Drops up to `limit` keys that are free. A key past its time that is still kept gets the time at which it may be
    /// free, and is skipped until then. A request that is pending now keeps its key for at least 24 h.
    pub async fn drop_expired_dedupe(&self, limit: i64) -> Result<u64> {
        let dropped =
            self.one(|| sqlx::query_file!("sql/drop_expired_dedupe.sql", self.clock().for_database(), limit)).await?;
        Ok(dropped.dropped.cast_unsigned())
    }
}
