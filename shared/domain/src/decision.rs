//! The one final outcome of a request, and its actor.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::envelope::canonical_digest;
use super::error::{Error, Result};
use super::ids::{Digest, RequestId};
use super::json::Json;
use super::stored::stored_as_text;
use super::time::Timestamp;

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The agent may run the action.
    Approved,
    /// The agent must not run it.
    Rejected,
    /// The question was withdrawn.
    Cancelled,
    /// The agent gets a value; it must not run the action.
    Responded,
}

stored_as_text!(Outcome {
    Approved = "approved",
    Rejected = "rejected",
    Cancelled = "cancelled",
    Responded = "responded",
});

/// Why it was decided. A timeout's rejection is never presented as a person's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A person at the queue.
    Operator,
    /// The timeout policy.
    Timeout,
    /// An administrator's disposition.
    Admin,
    /// The agent's own cancel.
    Agent,
    /// A rule of the tenant.
    Policy,
}

stored_as_text!(Cause {
    Operator = "operator",
    Timeout = "timeout",
    Admin = "admin",
    Agent = "agent",
    Policy = "policy",
});

/// What became of an approval (contract 1.1, "Permits"). Open: clients take what they do not know for "not done".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// Not approved, or decided before there were permits.
    None,
    /// Approved, and its permit can be used.
    Waiting,
    /// Approved; its permit ran out unused.
    Unused,
    /// Somebody used the permit and has not said how it went.
    Consumed,
    /// The action was carried out.
    Succeeded,
    /// The action failed.
    Failed,
    /// The permit was used, and no outcome was reported in time.
    Unknown,
}

stored_as_text!(Execution {
    None = "none",
    Waiting = "waiting",
    Unused = "unused",
    Consumed = "consumed",
    Succeeded = "succeeded",
    Failed = "failed",
    Unknown = "unknown",
});

/// What kind of principal acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person with the role `operator`.
    Operator,
    /// A person with the role `admin`.
    Admin,
    /// A person with the role `owner`.
    Owner,
    /// The agent itself.
    Agent,
    /// RelayTrace: `timeout-sweep`.
    System,
}

stored_as_text!(ActorKind { Operator = "operator", Admin = "admin", Owner = "owner", Agent = "agent", System = "system" });

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Actor {
    /// What kind of principal.
    pub kind: ActorKind,
    /// The token's `sub`, or `timeout-sweep`.
    pub id: String,
    /// The person's name as the token gave it.
    #[serde(default)]
    pub name: Option<String>,
    /// The operator for whom the person acted, by a delegation; only where they did.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(rename = "for", nullable = false))]
    pub acts_for: Option<ActedFor>,
}

/// An operator who was acted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActedFor {
    /// The operator's id.
    pub id: String,
    /// Their name as they were last seen.
    #[serde(default)]
    pub name: Option<String>,
}

impl Actor {
    /// The sweep that applies timeout policies.
    #[must_use]
    pub fn timeout_sweep() -> Self {
        Self { kind: ActorKind::System, id: "timeout-sweep".into(), name: None, acts_for: None }
    }

    /// Whether both are the same principal, by whatever name, and act for the same one.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        fn of(actor: &Actor) -> Option<&str> {
            actor.acts_for.as_ref().map(|acts_for| acts_for.id.as_str())
        }
        self.kind == other.kind && self.id == other.id && of(self) == of(other)
    }

    /// As chain entries write it: no member is null.
    #[must_use]
    pub fn in_entry(&self) -> Json {
        let acts_for = |of: &ActedFor| {
            Json::from([("id", Some(of.id.as_str().into())), ("name", Some(of.name.as_deref().into()))])
        };
        Json::from([
            ("kind", Some(self.kind.as_str().into())),
            ("id", Some(self.id.as_str().into())),
            ("name", self.name.as_deref().map(Json::from)),
            ("for", self.acts_for.as_ref().map(acts_for)),
        ])
    }
}

/// A JSON text, kept as it was written.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonText {}

impl TryFrom<Vec<u8>> for JsonText {
    type Error = Error;
    /// The stored JSON.
    fn try_from(bytes: Vec<u8>) -> Result<Self> {
        let text = String::from_utf8(bytes).map_err(Error::internal)?;
        RawValue::from_string(text).map(Self).map_err(Error::internal)
    }
}

/// What an operator wrote instead of a plain yes (contract, "Edit and respond"). Its digest is that of its RFC 8785 form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The action with other arguments.
    Action(JsonText, Digest),
    /// A value for the agent.
    Response(JsonText, Digest),
}

impl Written {
    /// The edited action.
    #[must_use]
    pub fn action(&self) -> Option<(&JsonText, Digest)> {
        match self {
            Self::Action(text, digest) => Some((text, *digest)),
            Self::Response(..) => None,
        }
    }

    /// The response.
    #[must_use]
    pub fn response(&self) -> Option<(&JsonText, Digest)> {
        match self {
            Self::Response(text, digest) => Some((text, *digest)),
            Self::Action(..) => None,
        }
    }

    /// Reads the stored columns: nothing if both are null.
    ///
    /// # Errors
    /// [`Error::Internal`] where it is no JSON.
    pub fn stored(action: Option<Vec<u8>>, response: Option<Vec<u8>>) -> Result<Option<Self>> {
        let read = |bytes: Vec<u8>| {
            let json = Json::parse(&bytes).map_err(|error| Error::internal(anyhow::anyhow!("stored {error:?}")))?;
            Ok::<_, Error>((JsonText::try_from(bytes)?, canonical_digest(&json)))
        };
        Ok(match (action, response) {
            (Some(action), _) => Some(read(action)).transpose()?.map(|(text, digest)| Self::Action(text, digest)),
            (_, Some(response)) => Some(read(response)).transpose()?.map(|(text, digest)| Self::Response(text, digest)),
            (None, None) => None,
        })
    }
}

/// A decision as every reader sees it (contract, "Decide").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Decision {
    /// The decided request.
    pub request_id: RequestId,
    /// The outcome of a request.
    pub outcome: Outcome,
    /// Why.
    pub cause: Cause,
    /// Who decided.
    pub decided_by: Actor,
    /// When.
    pub decided_at: Timestamp,
    /// The reason given, if any.
    pub reason: Option<String>,
    /// The action that was decided on: the edited one where it was edited.
    pub action_digest: Digest,
    /// The action that was asked for.
    pub requested_action_digest: Digest,
    /// Whether the operator changed the action.
    pub edited: bool,
    /// The action as the operator wrote it, byte for byte; only where they did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub action: Option<JsonText>,
    /// What the operator answered, byte for byte; only with the outcome `responded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub response: Option<JsonText>,
}

impl Decision {
    /// The same without what people wrote.
    #[must_use]
    pub fn shortened(self) -> Self {
        Self { reason: None, action: None, response: None, ..self }
    }

    /// Whether the same person said the same thing before: a retry, not a second decision. What was written is compared
    /// by its digest.
    #[must_use]
    pub fn repeats(&self, actor: &Actor, outcome: Outcome, reason: Option<&str>, written: Option<&Written>) -> bool {
        let digest = written.and_then(Written::action).map_or(self.requested_action_digest, |(_, digest)| digest);
        let response = |text: &JsonText| Json::parse(text.as_str().as_bytes()).ok().map(|json| canonical_digest(&json));
        self.decided_by.is(actor)
            && self.outcome == outcome
            && self.reason.as_deref() == reason
            && self.action_digest == digest
            && self.response.as_ref().and_then(response)
                == written.and_then(Written::response).map(|(_, digest)| digest)
    }
}
