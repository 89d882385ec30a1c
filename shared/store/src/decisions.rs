//! Deciding: the one place where a request stops being pending.

use chrono::{DateTime, Utc};
use relaytrace_domain::{
    Actor, ActorKind, AgentId, Answer, Cause, ClientRequestKey, Decision, Digest, Error, Failure, FreezeId, KeyId,
    Outcome, Permit, RequestId, Result, TenantId, Timestamp, Written,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use relaytrace_domain::signing::{Attestor, Statement};

use crate::batches::{Row, column, in_key_order, in_order, sparse};
use crate::chain::digest;
use crate::database::Database;
use crate::deliveries::{Delivered, Leased};
use crate::leases::OnItsWay;
use crate::measures::BatchKind;
use crate::{Caller, OutboxEvent, Scope};

/// What someone wants a request's decision to be.
#[derive(Clone, Debug)]
pub struct Deciding {
    /// The request.
    pub request_id: RequestId,
    /// By what authority.
    pub by: Authority,
    /// What.
    pub outcome: Outcome,
    /// What an operator writes instead of a plain yes.
    pub written: Option<Written>,
    /// Why, in their words.
    pub reason: Option<String>,
    /// The action that they saw; `None`: they did not say.
    pub action_digest: Option<Digest>,
    /// W3C trace context of the call.
    pub traceparent: Option<String>,
}

/// The decider, with the authority that it decides by.
#[derive(Clone, Debug)]
pub enum Authority {
    /// A person at the queue, in their tenant.
    Operator(Scope),
    /// An administrator, in their tenant.
    Admin(Scope),
    /// The agent that asked.
    Agent(Caller),
    /// The timeout policy, by the sweep.
    Timeout,
    /// An administrator's stop, by the sweep.
    Stop(TenantId, FreezeId),
}

impl Authority {
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Operator(_) => Cause::Operator,
            Self::Admin(_) | Self::Stop(..) => Cause::Admin,
            Self::Agent(_) => Cause::Agent,
            Self::Timeout => Cause::Timeout,
        }
    }

    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Operator(scope) | Self::Admin(scope) => scope.actor.clone(),
            Self::Agent(caller) => {
                Actor { kind: ActorKind::Agent, id: caller.agent_id.to_string(), name: None, acts_for: None }
            }
            Self::Timeout | Self::Stop(..) => Actor::timeout_sweep(),
        }
    }

    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Operator(scope) | Self::Admin(scope) => Some(&scope.tenant),
            Self::Stop(tenant, _) => Some(tenant),
            Self::Agent(_) | Self::Timeout => None,
        }
    }

    /// The person, as `may_decide` takes them; of others nothing is asked.
    pub(crate) fn person(&self) -> Value {
        match self {
            Self::Operator(scope) => scope.person(),
            Self::Admin(_) | Self::Agent(_) | Self::Timeout | Self::Stop(..) => Value::Object(Map::new()),
        }
    }

    /// Ids of the person and of whom they act for: neither counts twice.
    pub(crate) fn persons(&self) -> Vec<String> {
        let actor = self.actor();
        [actor.id].into_iter().chain(actor.acts_for.map(|acts_for| acts_for.id)).collect()
    }

    fn key_id(&self) -> Option<&str> {
        match self {
            Self::Agent(caller) => Some(caller.key_id.as_str()),
            Self::Operator(_) | Self::Admin(_) | Self::Timeout | Self::Stop(..) => None,
        }
    }

    fn freeze_id(&self) -> Option<&str> {
        match self {
            Self::Stop(_, freeze_id) => Some(freeze_id.as_str()),
            Self::Operator(_) | Self::Admin(_) | Self::Agent(_) | Self::Timeout => None,
        }
    }
}

/// A decision, and its event if it was made just now.
#[derive(Debug)]
pub struct Decided {
    /// The decision as it stands.
    pub decision: Decision,
    /// Its event; `None` for a repeated call.
    pub event: Option<OutboxEvent>,
    /// Its delivery, leased by the same statement to the poll that was named.
    pub leased: Option<OnItsWay>,
}

/// What a request asks.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Type of its action.
    pub action_type: String,
    /// The bytes of its envelope; `None`: erased.
    pub envelope: Option<Vec<u8>>,
    /// It was neither decided nor over when it was looked at.
    pub is_open: bool,
}

/// What the statement gives of a row that it has decided.
struct Made {
    request_id: RequestId,
    agent_id: AgentId,
    at: DateTime<Utc>,
    seq: i32,
    action_digest: Vec<u8>,
    requested_action_digest: Vec<u8>,
    payload: Vec<u8>,
    permit_expires_at: Option<DateTime<Utc>>,
    delivery_id: Option<Uuid>,
    // Only of a delivery that is leased:
    lease_expires_at: Option<DateTime<Utc>>,
    client_request_key: Option<ClientRequestKey>,
    action_type: Option<String>,
    entry: Option<Vec<u8>>,
    prev_hash: Option<Vec<u8>>,
    hash: Option<Vec<u8>>,
    submitted: Option<Vec<u8>>,
    submitted_hash: Option<Vec<u8>>,
    resume: Option<Vec<u8>>,
}

impl Made {
    /// The delivery, if it was leased by the statement.
    fn leased(&mut self, written: Option<&Written>) -> Result<Option<Leased>> {
        let (Some(delivery_id), Some(until), Some(client_request_key), Some(action_type)) =
            (self.delivery_id, self.lease_expires_at, self.client_request_key.take(), self.action_type.take())
        else {
            return Ok(None);
        };
        let delivered = Delivered {
            request_id: self.request_id,
            client_request_key,
            action_type,
            entry: self.entry.take().unwrap_or_default(),
            prev_hash: digest(self.prev_hash.take().unwrap_or_default())?,
            hash: digest(self.hash.take().unwrap_or_default())?,
            submitted: self.submitted.take().unwrap_or_default(),
            submitted_hash: digest(self.submitted_hash.take().unwrap_or_default())?,
            is_from_before: false,
            resume: self.resume.take(),
            permit: self.permit_expires_at.map(Permit::from),
            written: written.cloned(),
            attempt: 1,
            replayed: false,
            lease: Some((delivery_id, until)),
        };
        let deliveries = vec![delivered];
        Ok(Some(Leased { polled_at: self.at, deliveries, has_more: false, next_visible_at: None }))
    }
}

impl Deciding {
    fn decided(&self, mut made: Made, database: &Database) -> Result<Decided> {
        let leased = made.leased(self.written.as_ref())?.map(|leased| OnItsWay::new(leased, database));
        let decision = Decision {
            request_id: self.request_id,
            outcome: self.outcome,
            cause: self.by.cause(),
            decided_by: self.by.actor(),
            decided_at: Timestamp(made.at),
            reason: self.reason.clone(),
            edited: made.action_digest != made.requested_action_digest,
            action_digest: digest(made.action_digest)?,
            requested_action_digest: digest(made.requested_action_digest)?,
            action: self.written.as_ref().and_then(Written::action).map(|(text, _)| text.clone()),
            response: self.written.as_ref().and_then(Written::response).map(|(text, _)| text.clone()),
        };
        let event = OutboxEvent {
            request_id: self.request_id,
            seq: made.seq,
            kind: "decided".into(),
            agent_id: made.agent_id,
            payload: made.payload,
            traceparent: self.traceparent.clone(),
        };
        if let Some(priority) = event.priority() {
            let seconds = (made.at - self.request_id.minted_at()).as_seconds_f64();
            database.measures.decided(priority, self.outcome, decision.cause, seconds);
        }
        Ok(Decided { decision, event: Some(event), leased })
    }

    /// Whether it would approve.
    pub(crate) fn is_approval(&self) -> bool {
        self.outcome == Outcome::Approved
    }

    /// The answer of an operator that this is: the agent must have offered it.
    pub(crate) fn answer(&self) -> Option<Answer> {
        matches!(self.by, Authority::Operator(_)).then_some(match (self.outcome, &self.written) {
            (Outcome::Approved, Some(_)) => Answer::Edit,
            (Outcome::Approved, None) => Answer::Approve,
            (Outcome::Responded, _) => Answer::Respond,
            (Outcome::Rejected | Outcome::Cancelled, _) => Answer::Reject,
        })
    }

    /// Whether this decision is the same that is asked for here: a repeated call, not a second decision.
    pub(crate) fn is_repeated_by(&self, decision: &Decision) -> bool {
        match &self.by {
            // Taking back is taking back, whatever reason is given the second time.
            Authority::Agent(_) => decision.cause == Cause::Agent,
            by => decision.repeats(&by.actor(), self.outcome, self.reason.as_deref(), self.written.as_ref()),
        }
    }
}

/// A decision that its function has signed.
#[derive(Debug)]
pub(crate) struct Attested {
    deciding: Deciding,
    /// The JSON text of the entry's member `attestation`.
    attestation: String,
    /// Key of the parked poll that gets the delivery, and the id of that lease.
    taker: Option<(KeyId, Uuid)>,
}

impl Deciding {
    /// The same, signed, and bound to this action alone.
    ///
    /// # Errors
    /// [`Error::Internal`] where no key of this process may speak for its cause.
    pub(crate) fn attested(mut self, attestor: &Attestor, action_digest: Digest) -> Result<Attested> {
        let (actor, cause) = (self.by.actor(), self.by.cause());
        let attestation = attestor.attest(&Statement {
            request_id: self.request_id,
            outcome: self.outcome,
            cause,
            actor: &actor,
            action_digest,
            written: self.written.as_ref(),
            reason: self.reason.as_deref(),
            key_id: self.by.key_id(),
            freeze_id: self.by.freeze_id(),
        })?;
        self.action_digest = Some(action_digest);
        Ok(Attested { deciding: self, attestation, taker: None })
    }
}

impl Attested {
    /// The same, delivered at once to a poll that waits with this key.
    pub(crate) fn taken_by(mut self, key_id: Option<&KeyId>) -> Self {
        self.taker = key_id.map(|key_id| (key_id.clone(), Uuid::new_v4()));
        self
    }

    /// The edited action and its digest, as columns.
    fn action(&self) -> Option<(&[u8], &[u8])> {
        let Some(Written::Action(text, digest)) = &self.deciding.written else { return None };
        Some((text.as_str().as_bytes(), &digest.0))
    }

    /// The response and its digest, as columns.
    fn response(&self) -> Option<(&[u8], &[u8])> {
        let Some(Written::Response(text, digest)) = &self.deciding.written else { return None };
        Some((text.as_str().as_bytes(), &digest.0))
    }
}

impl Row for Attested {
    type Written = Decided;
    type Key<'a> = RequestId;
    const KIND: BatchKind = BatchKind::Decide;

    fn key(&self) -> RequestId {
        self.deciding.request_id
    }

    fn size(&self) -> usize {
        let written = self.deciding.written.as_ref();
        let text = written.and_then(|it| it.action().or(it.response())).map_or(0, |(text, _)| text.as_str().len());
        768 + self.deciding.reason.as_ref().map_or(0, String::len) + text
    }

    /// The one statement of decisions. Written over arrays; on Lambda they hold one.
    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<Decided>>> {
        let sent = &in_key_order(rows);
        let actors = column(sent, |row| row.deciding.by.actor());
        let people = column(sent, |row| row.deciding.by.person().to_string());
        let actions = sparse(sent, |row| row.action().map(|(action, _)| action));
        let action_digests = sparse(sent, |row| row.action().map(|(_, digest)| digest));
        let responses = sparse(sent, |row| row.response().map(|(response, _)| response));
        let response_digests = sparse(sent, |row| row.response().map(|(_, digest)| digest));
        let stops = sparse(sent, |row| row.deciding.by.freeze_id());
        let takers = sparse(sent, |row| row.taker.as_ref().map(|(key_id, _)| key_id.as_str()));
        let delivery_ids = sparse(sent, |row| row.taker.as_ref().map(|(_, delivery_id)| *delivery_id));
        let made = database
            .all(|| {
                sqlx::query_file_as!(
                    Made,
                    "sql/decide.sql",
                    database.clock().for_database(),
                    database.rules.max_age_seconds,
                    &column(sent, |row| row.deciding.request_id.0),
                    &column(sent, |row| row.deciding.outcome) as &[Outcome],
                    &column(sent, |row| row.deciding.by.cause()) as &[Cause],
                    &column(sent, |row| row.deciding.reason.as_deref()) as &[Option<&str>],
                    &column(sent, |row| row.deciding.action_digest.as_ref().map(|digest| digest.0.as_slice()))
                        as &[Option<&[u8]>],
                    &actors.iter().map(|actor| actor.kind).collect::<Vec<_>>() as &[ActorKind],
                    &actors.iter().map(|actor| actor.id.as_str()).collect::<Vec<_>>() as &[&str],
                    &actors.iter().map(|actor| actor.name.as_deref()).collect::<Vec<_>>() as &[Option<&str>],
                    &column(sent, |row| row.deciding.traceparent.as_deref()) as &[Option<&str>],
                    &column(sent, |row| row.deciding.by.key_id()) as &[Option<&str>],
                    &column(sent, |row| row.deciding.by.tenant().map(TenantId::as_str)) as &[Option<&str>],
                    &column(sent, |row| row.attestation.as_str()) as &[&str],
                    database.permits.permit_seconds,
                    &column(sent, |row| row.deciding.answer()) as &[Option<Answer>],
                    &people,
                    actions.as_deref() as Option<&[Option<&[u8]>]>,
                    action_digests.as_deref() as Option<&[Option<&[u8]>]>,
                    responses.as_deref() as Option<&[Option<&[u8]>]>,
                    response_digests.as_deref() as Option<&[Option<&[u8]>]>,
                    stops.as_deref() as Option<&[Option<&str>]>,
                    takers.as_deref() as Option<&[Option<&str>]>,
                    delivery_ids.as_deref() as Option<&[Option<Uuid>]>,
                    database.rules.lease_seconds,
                    database.rules.max_attempts,
                    Failure::DeliveryUnacknowledged.pause().as_secs_f64(),
                )
            })
            .await?;
        let made = in_order(rows, |row| row.deciding.request_id, made.into_iter().map(|made| (made.request_id, made)));
        rows.iter()
            .zip(made)
            .map(|(row, made)| made.map(|made| row.deciding.decided(made, database)).transpose())
            .collect()
    }
}

impl Database {
    /// What a request asks, for an answer that is more than a yes or no.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn asked(&self, scope: &Scope, request_id: RequestId) -> Result<Asked> {
        let now = self.clock().for_database();
        let asked =
            self.optional(|| sqlx::query_file_as!(Asked, "sql/asked.sql", now, request_id.0, scope.tenant.as_str()));
        asked.await?.ok_or(Error::NotFound)
    }

    /// Signs a decision. Where the decider did not name the action, its digest is remembered or looked up: every signed
    /// decision names its action. Whether the decider may know of the request, its statement asks.
    pub(crate) async fn attest(&self, deciding: Deciding) -> Result<Attested> {
        let known = deciding.action_digest.or_else(|| self.actions.get(&deciding.request_id));
        let action_digest = match (known, &deciding.by) {
            (Some(digest), _) => digest,
            // Only its own agent may learn that there is such a request.
            (None, Authority::Agent(caller)) => self.request_alone(caller, deciding.request_id).await?.0.action_digest,
            (None, by) => {
                let standing = self.standing(by, &[deciding.request_id]).await?;
                standing.first().ok_or(Error::NotFound)?.action_digest
            }
        };
        deciding.attested(&self.attestor, action_digest)
    }

    /// Requests past their `respond_by`, to be decided by policy: up to three times `limit`, or only `only` of them.
    pub(crate) async fn due_to_expire(
        &self,
        limit: i64,
        only: Option<RequestId>,
        allow_auto_approve: bool,
    ) -> Result<Vec<Deciding>> {
        let due = self
            .all(|| {
                sqlx::query_file!(
                    "sql/expire_due.sql",
                    self.clock().for_database(),
                    limit,
                    allow_auto_approve,
                    only.map(|id| id.0),
                )
            })
            .await?;
        let deciding = due.into_iter().map(|due| {
            Ok(Deciding {
                request_id: due.request_id,
                by: Authority::Timeout,
                outcome: due.outcome,
                written: None,
                reason: None,
                action_digest: Some(digest(due.action_digest)?),
                traceparent: None,
            })
        });
        deciding.collect()
    }

    /// Pending requests that a stop covers, to be rejected: up to three times `limit`, or only `only` of them.
    pub(crate) async fn stopped(&self, limit: i64, only: Option<RequestId>) -> Result<Vec<Deciding>> {
        let now = self.clock().for_database();
        let stopped = self.all(|| sqlx::query_file!("sql/stopped.sql", now, limit, only.map(|id| id.0))).await?;
        let deciding = stopped.into_iter().map(|stopped| {
            Ok(Deciding {
                request_id: stopped.request_id,
                by: Authority::Stop(stopped.tenant_id, stopped.freeze_id),
                outcome: Outcome::Rejected,
                written: None,
                reason: Some(stopped.reason),
                action_digest: Some(digest(stopped.action_digest)?),
                traceparent: None,
            })
        });
        deciding.collect()
    }
}
