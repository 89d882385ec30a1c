//! Submissions that a rule decides: request, decision and delivery by one statement of their own, so that others pay
//! nothing for it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use relaytrace_domain::rules::{Decides, Effect};
use relaytrace_domain::signing::Statement;
use relaytrace_domain::{
    Actor, ActorKind, Approvals, Cause, Execution, Failure, Outcome, Permit, Protocol, RequestId, Result, Status,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::OutboxEvent;
use crate::batches::{Row, in_order};
use crate::chain::digest;
use crate::database::Database;
use crate::deliveries::Delivered;
use crate::measures::BatchKind;
use crate::requests::{Columns, RequestState, Submitting};

/// A new request that a rule has decided.
#[derive(Clone, Debug)]
pub struct DecidedAtOnce {
    /// The request.
    pub request: RequestState,
    /// Its decision, leased to this answer where that carries it.
    pub delivered: Delivered,
    /// Its submission and its decision.
    pub events: [OutboxEvent; 2],
}

/// A submission that waits for its statement, with the decision of its rule, attested.
#[derive(Debug)]
pub(crate) struct Settling {
    submitting: Arc<Submitting>,
    outcome: Outcome,
    decides: Decides,
    /// `rule:<name>@<version>`.
    actor: String,
    /// The JSON text of the entry's member `attestation`.
    attestation: String,
    /// The lease of this answer.
    delivery_id: Option<Uuid>,
}

/// What the statement gives of a row that it has inserted.
struct Inserted {
    request_id: RequestId,
    created_at: DateTime<Utc>,
    respond_by: DateTime<Utc>,
    payload: Vec<u8>,
    decided_payload: Vec<u8>,
    submitted: Vec<u8>,
    submitted_hash: Vec<u8>,
    entry: Vec<u8>,
    hash: Vec<u8>,
    permit_expires_at: Option<DateTime<Utc>>,
    delivery_id: Option<Uuid>,
    lease_expires_at: Option<DateTime<Utc>>,
}

impl Database {
    /// A submission with the decision that its rule makes, signed; `None`: people are asked.
    ///
    /// # Errors
    /// `Error::Internal` where no key of this process may attest what rules decide.
    pub(crate) fn settling(&self, submitting: &Arc<Submitting>, is_leased: bool) -> Result<Option<Settling>> {
        let applied = submitting.ruling.as_ref().and_then(|ruling| Some((ruling.applied()?, ruling.version)));
        let Some((applied, version)) = applied else { return Ok(None) };
        let (outcome, decides) = match &applied.effect {
            Effect::Ask(_) => return Ok(None),
            Effect::Approve(decides) => (Outcome::Approved, decides.clone()),
            Effect::Reject(decides) => (Outcome::Rejected, decides.clone()),
        };
        let id = format!("rule:{}@{version}", applied.rule);
        let actor = Actor { kind: ActorKind::System, id, name: None, acts_for: None };
        let attestation = self.attestor.attest(&Statement {
            request_id: submitting.request_id,
            outcome,
            cause: Cause::Policy,
            actor: &actor,
            action_digest: submitting.submission.action_digest,
            written: None,
            reason: Some(decides.reason.as_str()),
            key_id: None,
            freeze_id: None,
        })?;
        let delivery_id = is_leased.then(Uuid::new_v4);
        let submitting = submitting.clone();
        Ok(Some(Settling { submitting, outcome, decides, actor: actor.id, attestation, delivery_id }))
    }
}

impl Settling {
    /// Its part of the statement's parameter.
    fn row(&self) -> Value {
        let asked = self.submitting.submission.envelope.priority;
        let mut row = self.submitting.ruling.as_ref().map(|ruling| ruling.row(asked)).unwrap_or_default();
        row.insert("outcome".into(), self.outcome.as_str().into());
        row.insert("actor".into(), self.actor.as_str().into());
        row.insert("reason".into(), self.decides.reason.as_str().into());
        row.insert("attestation".into(), self.attestation.as_str().into());
        if let Some(at_most) = self.decides.at_most {
            row.insert("most".into(), at_most.count.0.into());
            row.insert("per_seconds".into(), at_most.per_seconds.0.into());
            row.insert("scope".into(), self.decides.scope.to_string().into());
        }
        if let Some(delivery_id) = self.delivery_id {
            row.insert("delivery_id".into(), json!(delivery_id));
        }
        row.into()
    }

    fn decided(&self, made: Inserted, database: &Database) -> Result<DecidedAtOnce> {
        let submitting = &*self.submitting;
        let events =
            [submitting.event(1, "requested", made.payload), submitting.event(2, "decided", made.decided_payload)];
        // Decided by the statement that submits it: no time lies between.
        database.measures.decided(submitting.priority(), self.outcome, Cause::Policy, 0.0);
        let approvals = Approvals::stored(None, None, Some((self.outcome, ActorKind::System)))?;
        let request = RequestState {
            status: Status::Decided,
            execution: if self.outcome == Outcome::Approved { Execution::Waiting } else { Execution::None },
            ..submitting.state(made.created_at, made.respond_by, approvals)
        };
        let submitted_hash = digest(made.submitted_hash)?;
        let delivered = Delivered {
            request_id: request.request_id,
            client_request_key: request.client_request_key.clone(),
            action_type: submitting.submission.envelope.action.action_type.to_string(),
            entry: made.entry,
            prev_hash: submitted_hash,
            hash: digest(made.hash)?,
            submitted: made.submitted,
            submitted_hash,
            is_from_before: false,
            resume: submitting.submission.resume.clone(),
            permit: made.permit_expires_at.map(Permit::from),
            written: None,
            attempt: made.delivery_id.is_some().into(),
            replayed: false,
            lease: made.delivery_id.zip(made.lease_expires_at),
        };
        Ok(DecidedAtOnce { request, delivered, events })
    }
}

impl Row for Settling {
    type Written = DecidedAtOnce;
    type Key<'a> = (&'a str, &'a str);
    const KIND: BatchKind = BatchKind::SubmitDecided;

    fn key(&self) -> Self::Key<'_> {
        self.submitting.key()
    }

    fn size(&self) -> usize {
        self.submitting.size() + self.decides.reason.as_str().len()
    }

    /// The one statement of submissions that rules decide. Written over arrays; on Lambda they hold one.
    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<DecidedAtOnce>>> {
        let submitting: Vec<&Submitting> = rows.iter().map(|row| &*row.submitting).collect();
        let of = Columns::of(&submitting);
        let rules: Map<_, _> = rows.iter().map(|row| (row.submitting.request_id.to_string(), row.row())).collect();
        let rules = Value::Object(rules);
        let made = database
            .all(|| {
                sqlx::query_file_as!(
                    Inserted,
                    "sql/submit_decided.sql",
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
                    &rules,
                    database.rules.max_age_seconds,
                    database.rules.lease_seconds,
                    database.rules.max_attempts,
                    Failure::DeliveryUnacknowledged.pause().as_secs_f64(),
                )
            })
            .await?;
        let made =
            in_order(rows, |row| row.submitting.request_id, made.into_iter().map(|made| (made.request_id, made)));
        rows.iter().zip(made).map(|(row, made)| made.map(|made| row.decided(made, database)).transpose()).collect()
    }
}
