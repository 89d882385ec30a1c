//! A request as the Agent Approval Protocol has it: nothing unknown, nothing null, the agent's own words byte for byte.

use axum::Json;
use axum::response::{IntoResponse, Response};
use relaytrace_domain::{Cause, Digest, Error, Outcome, Reported, RequestId, Result, Timestamp};
use relaytrace_store::RequestState;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::Attested;

/// What an agent asks.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AapSubmission<'a> {
    /// Name of the tool.
    #[serde(borrow)]
    #[schema(value_type = String)]
    tool: &'a RawValue,
    /// Where the tool is.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = false)]
    server: Option<&'a RawValue>,
    /// Every argument of the call.
    #[serde(borrow)]
    #[schema(value_type = Object)]
    arguments: &'a RawValue,
    /// How long the agent would wait, `[1-9][0-9]*(s|m|h|d)`; no more than the timeout policy gives.
    #[serde(borrow)]
    #[schema(value_type = String)]
    timeout: &'a RawValue,
    /// Why, for the operator.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = false)]
    agent_reasoning: Option<&'a RawValue>,
    /// For the operator's eyes, but for its member `resume`.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>, nullable = false)]
    context: Option<&'a RawValue>,
}

/// The members of a `submitted` entry that are told for ever.
#[derive(Debug, Deserialize)]
pub struct Submitted {
    at: Timestamp,
    respond_by: Timestamp,
    pub action_digest: Digest,
}

impl Submitted {
    /// Of a request that was stored just now.
    pub fn new(request: &RequestState) -> Self {
        let (at, respond_by) = (Timestamp(request.created_at), Timestamp(request.respond_by));
        Self { at, respond_by, action_digest: request.action_digest }
    }

    /// As the chain has it.
    pub fn read(entry: &[u8]) -> Result<Self> {
        serde_json::from_slice(entry).map_err(Error::internal)
    }
}

/// How the run of an action ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomeTold {
    status: Reported,
    reported_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    note: Option<String>,
}

impl OutcomeTold {
    /// What an `outcome` entry says; `None`: that nobody knows, for which the protocol has no word.
    pub fn read(entry: &[u8]) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Entry {
            at: Timestamp,
            state: String,
            note: Option<String>,
        }
        let Entry { at, state, note } = serde_json::from_slice(entry).map_err(Error::internal)?;
        let status = match state.as_str() {
            "succeeded" => Reported::Succeeded,
            "failed" => Reported::Failed,
            _ => return Ok(None),
        };
        Ok(Some(Self { status, reported_at: at, note: note.filter(|note| !note.is_empty()) }))
    }
}

/// The use of an approval.
#[derive(Debug, Serialize, ToSchema)]
pub struct Consumption {
    pub consumed_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub outcome: Option<OutcomeTold>,
}

/// A decision.
#[derive(Debug, Serialize, ToSchema)]
struct AapDecision<'a> {
    /// As the request's.
    status: &'static str,
    /// Why it was denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    note: Option<&'a str>,
    decided_at: Timestamp,
    /// Until when an approval may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<Timestamp>,
}

impl<'a> AapDecision<'a> {
    fn of(decided: &'a Attested) -> Self {
        let entry = &decided.entry;
        let (status, note) = match (entry.outcome, entry.cause) {
            (Outcome::Approved, _) => ("approved", None),
            (Outcome::Rejected, Cause::Timeout) => ("expired", None),
            (Outcome::Cancelled, _) => ("cancelled", None),
            (Outcome::Rejected | Outcome::Responded, _) => ("denied", entry.reason.as_deref()),
        };
        let note = note.filter(|note| !note.is_empty());
        Self { status, note, decided_at: entry.at, expires_at: decided.expires_at() }
    }
}

/// A request: what the agent asked, and how it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct AapRequest<'a> {
    id: RequestId,
    #[schema(value_type = String)]
    tool: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    server: Option<&'a RawValue>,
    #[schema(value_type = Object)]
    arguments: &'a RawValue,
    #[schema(value_type = String)]
    timeout: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    agent_reasoning: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    context: Option<&'a RawValue>,
    /// pending, approved, denied, expired or cancelled.
    status: &'static str,
    created_at: Timestamp,
    /// As it was when the request was stored.
    deadline_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    decision: Option<AapDecision<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    consumption: Option<Consumption>,
}

/// The response that tells a request.
pub fn render(
    id: RequestId,
    body: &[u8],
    submitted: &Submitted,
    decided: Option<&Attested>,
    consumption: Option<Consumption>,
) -> Result<Response> {
    let asked: AapSubmission = serde_json::from_slice(body).map_err(Error::internal)?;
    let decision = decided.map(AapDecision::of);
    let told = AapRequest {
        id,
        tool: asked.tool,
        server: asked.server,
        arguments: asked.arguments,
        timeout: asked.timeout,
        agent_reasoning: asked.agent_reasoning,
        context: asked.context,
        status: decision.as_ref().map_or("pending", |decision| decision.status),
        created_at: submitted.at,
        deadline_at: submitted.respond_by,
        decision,
        consumption,
    };
    Ok(Json(told).into_response())
}
