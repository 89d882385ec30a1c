//! The Agent Approval Protocol (contract, "The Agent Approval Protocol").

mod failures;
pub mod instances;
mod view;

use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use relaytrace_domain::{
    AapBody, Action, Bridged, ClientRequestKey, ConsumeKey, DeliveryState, Envelope, EnvelopeVersion, Error,
    FreeObject, InvalidText, Note, Outcome, Priority, Protocol, Reported, RequestId, Result, Submission, Timestamp,
    action_digest,
};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Agent, Ask, Execute};
use relaytrace_service::events::WaitsFor;
use relaytrace_service::http::{JsonBody, JsonBytes, Path, Query, RequestOf, Trace};
use relaytrace_service::wait::{Look, Looking, look_or_wait};
use relaytrace_store::{Authority, BridgedRequest, Caller, Consuming, Deciding, Reporting};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{Attested, acknowledge};
pub use failures::DIALECT;
use failures::{AapError, KEY, KEY_IS_MISSING};
use view::{AapRequest, AapSubmission, Consumption, OutcomeTold, Submitted, render};

/// Longest note of an outcome, in characters; what an agent says beyond is not kept.
const LONGEST_NOTE: usize = 2_000;

/// Ask a person, by the Agent Approval Protocol
#[utoipa::path(
    post, path = "/aap/v1/requests", tag = "bridge", security(("agent" = [])), request_body = AapSubmission,
    params(("Idempotency-Key" = String, Header, description = "The agent's own key of the request")),
    responses(
        (status = 201, description = "Stored", body = AapRequest),
        (status = 200, description = "The same key and body as before: the request as it now stands", body = AapRequest),
        (status = "default", description = "An error", body = AapError),
    )
)]
pub async fn create(
    Agent(caller, _): Agent<Ask>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    headers: HeaderMap,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response> {
    let mut submission = submission(&caller, key_of(&headers)?, &bytes)?;
    state.authenticator.count_submission(&caller)?;
    submission.envelope.priority = state.store.default_priority_of(&caller.agent_id).await?;
    let submitted = state.relay.submit(caller.clone(), submission, state.taking(), trace.traceparent.clone()).await?;
    let (request, decided, is_new) = submitted;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    if !is_new || decided.is_some() {
        let told = tell(&state, &caller, request.request_id, None, &trace.traceparent).await?;
        return Ok((status, told).into_response());
    }
    let submitted = Submitted::new(&request);
    let told = render(request.request_id, &bytes, &submitted, None, None)?;
    Ok((status, Extension(RequestOf(request.request_id)), told).into_response())
}

/// What a body asks, as it is stored: the body itself, and what is derived from it.
fn submission(caller: &Caller, key: ClientRequestKey, bytes: &[u8]) -> Result<Submission> {
    let body = AapBody::parse(bytes)?;
    let envelope = Envelope {
        envelope_version: EnvelopeVersion::V1,
        agent_id: caller.agent_id.clone(),
        client_request_key: key,
        priority: Priority::P2,
        title: body.title(),
        summary: None,
        action: Action { action_type: body.action_type.clone(), arguments: FreeObject },
        context: None,
        resume: None,
        respond_by: None,
        answers: None,
        edit_schema: None,
        respond_schema: None,
        group: None,
        on_behalf_of: None,
        permit_seconds: None,
    };
    Ok(Submission {
        envelope,
        bytes: bytes.to_vec(),
        resume: None,
        action_digest: action_digest(&body.action()),
        fingerprint: body.fingerprint,
        bridged: Some(Bridged { protocol: Protocol::Aap, respond_within: Some(body.timeout_seconds) }),
    })
}

/// The key in the header `Idempotency-Key`.
fn key_of<T: FromStr<Err = InvalidText>>(headers: &HeaderMap) -> Result<T> {
    key_if_any(headers)?.ok_or_else(|| Error::invalid(KEY, KEY_IS_MISSING))
}

/// The same where it may be missing.
fn key_if_any<T: FromStr<Err = InvalidText>>(headers: &HeaderMap) -> Result<Option<T>> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid(KEY, "must be sent once"));
    }
    let key = value.to_str().unwrap_or_default().parse();
    key.map(Some).map_err(|rule: InvalidText| Error::invalid(KEY, rule.to_string()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LookQuery {
    /// Longest wait for the decision, such as `25s`.
    wait: Option<String>,
}

impl LookQuery {
    fn longest(&self, most: u64) -> Result<Duration> {
        let Some(text) = &self.wait else { return Ok(Duration::ZERO) };
        let digits = text.strip_suffix('s').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let digits = digits.filter(|digits| !digits.is_empty());
        let digits = digits.ok_or_else(|| Error::invalid("/wait", "must be whole seconds, such as 25s"))?;
        // Digits that do not fit are above any wait.
        Ok(Duration::from_secs(digits.parse().unwrap_or(u64::MAX).min(most)))
    }
}

/// See a request, by the Agent Approval Protocol
#[utoipa::path(
    get, path = "/aap/v1/requests/{request_id}", tag = "bridge", security(("agent" = [])),
    params(("request_id" = String, Path), LookQuery),
    responses(
        (status = 200, description = "The request", body = AapRequest),
        (status = "default", description = "An error", body = AapError),
    )
)]
pub async fn look(
    Agent(caller, _): Agent<Ask>,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    Query(query): Query<LookQuery>,
) -> Result<Response> {
    let longest = query.longest(state.store.rules().max_wait_seconds)?;
    let found = state.store.bridged(&caller, request_id, Protocol::Aap).await?;
    if longest.is_zero() || found.delivery_state.is_some() {
        return tell(&state, &caller, request_id, Some(found), &trace.traceparent).await;
    }
    let (store, caller) = (&state.store, &caller);
    let look = |_| -> Looking<_> {
        Box::pin(async move {
            let is_there = store.request_of(caller, request_id).await?.1.is_some();
            Ok(Look { is_there, there_in: None, found: () })
        })
    };
    look_or_wait(&state, &caller.agent_id, WaitsFor::Decision(request_id), longest, look).await?;
    tell(&state, caller, request_id, None, &trace.traceparent).await
}

/// Take a request back, by the Agent Approval Protocol
#[utoipa::path(
    delete, path = "/aap/v1/requests/{request_id}", tag = "bridge", security(("agent" = [])),
    params(("request_id" = String, Path)),
    responses(
        (status = 200, description = "Cancelled, now or before", body = AapRequest),
        (status = "default", description = "An error", body = AapError),
    )
)]
pub async fn cancel(
    Agent(caller, _): Agent<Ask>,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
) -> Result<Response> {
    state.store.bridged(&caller, request_id, Protocol::Aap).await?;
    let deciding = Deciding {
        request_id,
        by: Authority::Agent(caller.clone()),
        outcome: Outcome::Cancelled,
        written: None,
        reason: None,
        action_digest: None,
        traceparent: Some(trace.traceparent.clone()),
    };
    match state.relay.decide(deciding).await {
        Err(Error::AlreadyDecided(decision)) if decision.outcome == Outcome::Cancelled => {}
        decided => drop(decided?),
    }
    tell(&state, &caller, request_id, None, &trace.traceparent).await
}

/// Use an approval, by the Agent Approval Protocol
#[utoipa::path(
    post, path = "/aap/v1/requests/{request_id}/consume", tag = "bridge", security(("agent" = [])),
    params(
        ("request_id" = String, Path),
        ("Idempotency-Key" = String, Header, description = "Names this attempt: the same again is the same use"),
    ),
    responses(
        (status = 200, description = "Used by this attempt, now or before", body = AapRequest),
        (status = "default", description = "An error", body = AapError),
    )
)]
pub async fn consume(
    Agent(caller, _): Agent<Execute>,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    headers: HeaderMap,
) -> Result<Response> {
    let consume_key: ConsumeKey = key_of(&headers)?;
    let mut found = state.store.bridged(&caller, request_id, Protocol::Aap).await?;
    let consuming = Consuming {
        caller: caller.clone(),
        request_id,
        consume_key,
        // No person can edit what is asked by this protocol: what was approved is what was asked.
        action_digest: Submitted::read(&found.submitted)?.action_digest,
        is_any: false,
        is_assumed: true,
        traceparent: Some(trace.traceparent.clone()),
    };
    match state.relay.consume(consuming).await {
        Ok((consumed, _)) => {
            found.consumed_at = Some(consumed.consumed_at);
            found.delivery_state = Some(DeliveryState::Acknowledged);
        }
        Err(error @ (Error::PermitExpired { .. } | Error::PermitRevoked)) => {
            acknowledge(&state, &caller, request_id, &trace.traceparent).await?;
            return Err(error);
        }
        Err(error) => return Err(error),
    }
    tell(&state, &caller, request_id, Some(found), &trace.traceparent).await
}

/// How the run of an action ended.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct AapReport {
    status: Reported,
    #[deserr(default, from(String) = Some)]
    #[schema(nullable = false)]
    note: Option<String>,
}

/// Say what became of it, by the Agent Approval Protocol
#[utoipa::path(
    post, path = "/aap/v1/requests/{request_id}/outcome", tag = "bridge", security(("agent" = [])),
    params(("request_id" = String, Path)), request_body = AapReport,
    responses(
        (status = 200, description = "On record, now or before", body = AapRequest),
        (status = "default", description = "An error", body = AapError),
    )
)]
pub async fn outcome(
    Agent(caller, _): Agent<Execute>,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(report): JsonBody<AapReport>,
) -> Result<Response> {
    let note = report.note.map(|note| note.chars().take(LONGEST_NOTE).collect::<String>());
    if note.as_ref().is_some_and(String::is_empty) {
        return Err(Error::invalid("/note", "must not be empty"));
    }
    let note = note.map(|note| note.parse::<Note>()).transpose();
    let note = note.map_err(|rule| Error::invalid("/note", rule.to_string()))?;
    state.store.bridged(&caller, request_id, Protocol::Aap).await?;
    let reporting = Reporting {
        caller: caller.clone(),
        request_id,
        state: report.status,
        note,
        evidence: None,
        is_any: false,
        traceparent: Some(trace.traceparent.clone()),
    };
    state.relay.report_outcome(reporting).await?;
    tell(&state, &caller, request_id, None, &trace.traceparent).await
}

/// The whole request as it now stands. What is told and cannot be used is acknowledged first.
async fn tell(
    state: &AppState,
    caller: &Caller,
    request_id: RequestId,
    found: Option<BridgedRequest>,
    traceparent: &str,
) -> Result<Response> {
    let (request, delivered) = state.store.request_of(caller, request_id).await?;
    let decided = delivered.map(|delivered| Attested::of(state, caller, delivered)).transpose()?;
    // Read after the decision, where it was not read yet: what follows a decision is told with it.
    let found = match found {
        Some(found) if decided.is_none() || found.delivery_state.is_some() => found,
        _ => state.store.bridged(caller, request_id, Protocol::Aap).await?,
    };
    let is_open = decided.as_ref().is_some_and(|decided| decided.is_usable(state)) && found.consumed_at.is_none();
    let is_over = found.delivery_state == Some(DeliveryState::Acknowledged);
    if decided.is_some() && !is_open && !is_over {
        acknowledge(state, caller, request_id, traceparent).await?;
    }
    let submitted = Submitted::read(&found.submitted)?;
    let outcome = found.outcome.as_deref().map(OutcomeTold::read).transpose()?.flatten();
    let consumption = found.consumed_at.map(|at| Consumption { consumed_at: Timestamp(at), outcome });
    // Nothing can be told of a request whose words were erased.
    let body = found.envelope.ok_or(Error::NotFound)?;
    let told = render(request.request_id, &body, &submitted, decided.as_ref(), consumption)?;
    Ok((Extension(RequestOf(request_id)), told).into_response())
}
