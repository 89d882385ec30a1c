//! Requests and responses (contract, "Submit", "Poll and acknowledge"). Members that this client does not
//! know are ignored.

use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{Error, Result};

/// How urgent a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// 15 minutes, by default.
    P1,
    /// 4 hours.
    P2,
    /// 24 hours.
    P3,
}

/// The exact thing that the agent wants to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// `[A-Za-z0-9_][A-Za-z0-9_./:%~-]{0,127}`.
    #[serde(rename = "type")]
    pub kind: String,
    /// An object. Write amounts as text: numbers are compared as they are written.
    pub arguments: Value,
}

impl Action {
    /// An action of this type.
    #[must_use]
    pub fn new(kind: &str, arguments: Value) -> Self {
        Self { kind: kind.to_owned(), arguments }
    }

    /// `sha256:` and the SHA-256 over its RFC 8785 form.
    pub fn digest(&self) -> Result<String> {
        let canonical = serde_json_canonicalizer::to_vec(self)
            .map_err(|error| Error::Configuration(format!("the action has no canonical form: {error}")))?;
        let hash = digest::digest(&digest::SHA256, &canonical);
        Ok(hash.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}")))
    }
}

/// What an agent can take for an answer. A rejection always may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerKind {
    /// The action may run as it was asked.
    Approve,
    /// It must not run.
    Reject,
    /// It may run with other arguments: run [`crate::PermitInUse::action`] only. Needs [`AnswerKind::Approve`].
    Edit,
    /// A value instead of a run ([`Outcome::Responded`]).
    Respond,
}

/// A person for whom the agent acts, and who may not approve what it asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnBehalfOf {
    /// Compared, without case, with an operator's id and the claims of the operator's token.
    pub id: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A question.
#[derive(Clone, Debug, Serialize)]
pub struct Envelope {
    /// The agent's own key, `[A-Za-z0-9._:-]{1,128}`: the same key with the same envelope is the same question.
    pub client_request_key: String,
    /// How urgent it is.
    pub priority: Priority,
    /// The question in one line.
    pub title: String,
    /// The exact thing that the agent wants to do.
    pub action: Action,
    /// Markdown for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// An object for the operator's eyes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
    /// An object that comes back with the decision, never shown to anyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Value>,
    /// A deadline of the agent's own; it may shorten the policy's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond_by: Option<DateTime<Utc>>,
    /// What the agent can take for an answer; empty: approve and reject.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<AnswerKind>,
    /// JSON Schema 2020-12 of edited arguments. Needs [`AnswerKind::Edit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit_schema: Option<Value>,
    /// JSON Schema 2020-12 of a response. Needs [`AnswerKind::Respond`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond_schema: Option<Value>,
    /// `[A-Za-z0-9._:-]{1,128}`: requests of one agent that belong together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The person for whom the agent acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<OnBehalfOf>,
    /// How long an approval may be used, in seconds: 10 to 86,400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permit_seconds: Option<u32>,
}

impl Envelope {
    /// An envelope with the required members; optional ones are fields.
    #[must_use]
    pub fn new(client_request_key: &str, priority: Priority, title: &str, action: Action) -> Self {
        Self {
            client_request_key: client_request_key.to_owned(),
            priority,
            title: title.to_owned(),
            action,
            summary: None,
            context: None,
            resume: None,
            respond_by: None,
            answers: Vec::new(),
            edit_schema: None,
            respond_schema: None,
            group: None,
            on_behalf_of: None,
            permit_seconds: None,
        }
    }

    pub(crate) fn to_json(&self, agent_id: &str) -> Result<Vec<u8>> {
        let unusable = |error| Error::Configuration(format!("the envelope is no JSON: {error}"));
        let mut body = serde_json::to_value(self).map_err(unusable)?;
        body["envelope_version"] = json!("1");
        body["agent_id"] = json!(agent_id);
        serde_json::to_vec(&body).map_err(unusable)
    }
}

/// A request as it stands: the answer to a submission, and what [`crate::Client::request`] shows later.
#[derive(Clone, Debug, Deserialize)]
pub struct RequestState {
    /// Its agent.
    pub agent_id: String,
    /// Names it from now on.
    pub request_id: Uuid,
    /// The agent's own key.
    pub client_request_key: String,
    /// `pending` or `decided`.
    pub status: String,
    /// As it now stands.
    pub priority: Priority,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// Until when a person may answer.
    pub respond_by: DateTime<Utc>,
    /// Of the action.
    pub action_digest: String,
    /// It was asked before.
    #[serde(default)]
    pub duplicate: bool,
    /// Once there is one. It can be acted on and acknowledged where this answer leases it: where it has a
    /// [`Decision::delivery_id`].
    #[serde(default)]
    pub decision: Option<Decision>,
    /// How far the use of its approval is (contract, "Permits"): `none`, `waiting`, `unused`, `consumed`, `succeeded`,
    /// `failed`, `unknown`; another value may come. Empty from a service that knows no permits.
    #[serde(default)]
    pub execution: String,
}

/// What was decided. The set is open: a later version of the service may know more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The action may be done.
    Approved,
    /// It must not.
    Rejected,
    /// The question was withdrawn.
    Cancelled,
    /// The operator answered with a value: not an approval.
    Responded,
    /// An outcome that this client does not know: not an approval.
    #[serde(other)]
    Unknown,
}

/// A principal that acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// `operator`, `admin`, `agent` or `system`.
    pub kind: String,
    /// Within its kind.
    pub id: String,
    /// For people.
    pub name: Option<String>,
}

/// How long a chain was when the decision was made, and its head then.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Chain {
    /// Entries.
    pub length: u32,
    /// Hash of the last one.
    pub head: String,
}

/// How long an approval may be used (contract, "Permits").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// From then on it is not consumed any more.
    pub expires_at: DateTime<Utc>,
}

/// The one final outcome of a request.
#[derive(Clone, Debug, Deserialize)]
pub struct Decision {
    /// Of which request.
    pub request_id: Uuid,
    /// The agent's own key.
    pub client_request_key: String,
    /// The outcome.
    pub outcome: Outcome,
    /// `operator`, `timeout`, `admin` or `agent`.
    pub cause: String,
    /// When the decision was made, by the database's clock.
    pub decided_at: DateTime<Utc>,
    /// The actor of the decision.
    pub decided_by: Actor,
    /// The reason given, as it was written.
    pub reason: Option<String>,
    /// Of the action that was decided on: the edited one where it was edited.
    pub action_digest: String,
    /// Of the action that was asked for; None from a service that knows no edits.
    #[serde(default)]
    pub requested_action_digest: Option<String>,
    /// Whether the operator changed the action.
    #[serde(default)]
    pub edited: bool,
    /// The action as the operator wrote it, where they did: what may be done instead.
    #[serde(default)]
    pub action: Option<Value>,
    /// What the operator answered, with [`Outcome::Responded`].
    #[serde(default)]
    pub response: Option<Value>,
    /// Of an approval.
    #[serde(default)]
    pub permit: Option<Permit>,
    /// The envelope's `resume`.
    pub resume: Option<Value>,
    /// Names this delivery. None where the decision was only read: it was acknowledged before, or another worker of the
    /// agent has it.
    #[serde(default)]
    pub delivery_id: Option<Uuid>,
    /// How often it was handed out, this time included.
    #[serde(default)]
    pub attempt: u32,
    /// An administrator had it delivered again.
    #[serde(default)]
    pub replayed: bool,
    /// The end of the lease.
    #[serde(default)]
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// The chain's state at the decision.
    pub chain: Chain,
    /// A signed statement of it: a compact JWS.
    pub receipt: String,
}

impl Decision {
    /// Of the action that was asked for.
    #[must_use]
    pub fn requested_digest(&self) -> &str {
        self.requested_action_digest.as_deref().unwrap_or(&self.action_digest)
    }

    /// The action that may run: the one that was asked, or what the operator made of it.
    ///
    /// # Errors
    /// [`Error::OtherAnswer`] where the decision is on another action, or its `action` is not that of its digest;
    /// [`Error::ContractBroken`] where it is no approval.
    pub fn approved_action(&self, asked: &Action) -> Result<Action> {
        if self.outcome != Outcome::Approved {
            return Err(Error::ContractBroken(format!("{} is no approval", self.request_id)));
        }
        let same = |asked: String, answered: &str| {
            if asked == answered { Ok(()) } else { Err(Error::OtherAnswer { asked, answered: answered.to_owned() }) }
        };
        same(asked.digest()?, self.requested_digest())?;
        let action = match &self.action {
            Some(edited) => {
                Action::deserialize(edited).map_err(|fault| Error::ContractBroken(format!("an action: {fault}")))?
            }
            None => asked.clone(),
        };
        same(asked.kind.clone(), &action.kind)?;
        same(action.digest()?, &self.action_digest)?;
        Ok(action)
    }

    /// Whether exactly this action was approved, and this delivery of the approval is the caller's. Ask it right before
    /// acting.
    ///
    /// An approval without a [`Decision::delivery_id`] permits nothing: who holds or held its delivery acts on it.
    #[must_use]
    pub fn permits(&self, action: &Action) -> bool {
        self.outcome == Outcome::Approved
            && self.delivery_id.is_some()
            && action.digest().is_ok_and(|digest| digest == self.action_digest)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Polled {
    pub(crate) agent_id: String,
    pub(crate) decisions: Vec<Decision>,
    /// When to come back, where the deployment lowers the longest wait.
    pub(crate) retry_after_ms: Option<u64>,
}

/// An approval that is used (contract, "Consume").
#[derive(Clone, Debug, Deserialize)]
pub struct Consumed {
    /// The agent of the request.
    pub agent_id: String,
    /// Of which request.
    pub request_id: Uuid,
    /// Of the action that may run now, once.
    pub action_digest: String,
    /// By the database's clock.
    pub consumed_at: DateTime<Utc>,
    /// The key that used it.
    pub consumed_by: String,
    /// The same attempt had used it before.
    pub repeated: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// It took effect.
    Succeeded,
    /// It did not, or not wholly.
    Failed,
}

/// A report on record (contract, "Report").
#[derive(Clone, Debug, Deserialize)]
pub struct Reported {
    /// The agent of the request.
    pub agent_id: String,
    /// Of which request.
    pub request_id: Uuid,
    /// As it was reported.
    pub state: Ended,
    /// The same had been reported before.
    pub repeated: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Found {
    pub(crate) agent_id: String,
    pub(crate) items: Vec<RequestState>,
}

/// The decision that withdrew a question.
#[derive(Clone, Debug, Deserialize)]
pub struct Cancelled {
    /// Whose it was.
    pub agent_id: String,
    /// Of which request.
    pub request_id: Uuid,
    /// [`Outcome::Cancelled`].
    pub outcome: Outcome,
    /// `agent`.
    pub cause: String,
    /// When the decision was made, by the database's clock.
    pub decided_at: DateTime<Utc>,
    /// The agent.
    pub decided_by: Actor,
    /// In its words.
    pub reason: Option<String>,
}

/// Where a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It ended well.
    Acknowledged,
    /// It will be handed out again.
    Ready,
    /// An administrator has to look at it.
    DeadLettered,
    /// A state that this client does not know.
    #[serde(other)]
    Unknown,
}

/// The result of an acknowledgement.
#[derive(Clone, Debug, Deserialize)]
pub struct Acknowledged {
    /// The agent of the request.
    pub agent_id: String,
    /// Of which request.
    pub request_id: Uuid,
    /// The delivery that was named; none where none was.
    pub delivery_id: Option<Uuid>,
    /// Where the delivery is now.
    pub state: DeliveryState,
    /// Which attempt was acknowledged.
    pub attempt: u32,
}
