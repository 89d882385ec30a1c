//! `ingest`: agents submit requests and take them back.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use relaytrace_domain::{
    AgentId, Cause, ClientRequestKey, Decision, Envelope, InvalidText, Outcome, Reason, RequestId, Submission,
};
use relaytrace_domain::{Error, Result};
use relaytrace_service::auth::{Agent, Ask};
use relaytrace_service::http::{JsonBody, JsonBytes, Path, Problem, RequestOf, RequestView, Routes, Trace};
use relaytrace_service::{AppState, DatabaseAuthority};
use relaytrace_store::{Authority, Deciding};
use utoipa::ToSchema;

/// The routes of this function.
pub fn router() -> Routes {
    relaytrace_service::routes!(submit, cancel)
        .needing(DatabaseAuthority::Agent, |needs| needs.responses().causes(&[Cause::Agent, Cause::Policy]))
}

/// Ask a person
#[utoipa::path(
    post, path = "/v1/hitl/requests", tag = "ingest", security(("agent" = [])), request_body = Envelope,
    params(("Idempotency-Key" = Option<String>, Header, description = "The client_request_key, where the body has none")),
    responses(
        (status = 201, description = "Stored, visible in the queue, its event in the outbox", body = RequestView,
            headers(("location" = String, description = "The agent's view of the request"))),
        (status = 200, description = "The same key and envelope as before: the request as it now stands", body = RequestView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn submit(
    Agent(caller, _): Agent<Ask>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    headers: HeaderMap,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response> {
    let submission = Submission::parse(&bytes, idempotency_key(&headers)?.as_ref())?;
    if submission.envelope.agent_id != caller.agent_id {
        return Err(Error::Forbidden("the token is another agent's"));
    }
    state.authenticator.count_submission(&caller)?;
    let (request, delivered, is_new) =
        state.relay.submit(caller, submission, state.taking(), trace.traceparent.clone()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/v1/agents/{}/requests/{}", request.agent_id, request.request_id);
    let request_id = request.request_id;
    // A receipt is signed elsewhere where this function is apart: its agent then looks at the request.
    let delivered = delivered.filter(|_| state.receipt_keys.can_sign());
    let body = Json(RequestView::new(request, delivered, !is_new, &state.receipt_keys)?);
    let mut response = (status, body).into_response();
    response.extensions_mut().insert(RequestOf(request_id));
    if status == StatusCode::CREATED
        && let Ok(location) = location.parse()
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The `client_request_key` where it comes as a header (contract, "Envelope").
fn idempotency_key(headers: &HeaderMap) -> Result<Option<ClientRequestKey>> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid("/idempotency-key", "must be sent once"));
    }
    let key = value.to_str().unwrap_or_default().parse();
    key.map(Some).map_err(|rule: InvalidText| Error::invalid("/idempotency-key", rule.to_string()))
}

/// Why an agent takes its request back.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
struct Cancel {
    /// 1 to 2,000 characters.
    #[deserr(default)]
    reason: Option<Reason>,
}

/// A cancelled request: its decision, for its agent.
#[derive(Debug, serde::Serialize, ToSchema)]
struct Cancelled {
    agent_id: AgentId,
    #[serde(flatten)]
    decision: Decision,
}

/// Take a request back
#[utoipa::path(
    post, path = "/v1/agents/{agent_id}/requests/{request_id}/cancel", tag = "ingest", security(("agent" = [])),
    params(("agent_id" = String, Path), ("request_id" = String, Path)), request_body = Cancel,
    responses(
        (status = 200, description = "Cancelled now or before", body = Cancelled),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn cancel(
    Agent(caller, _): Agent<Ask>,
    Path((_, request_id)): Path<(String, RequestId)>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(cancel): JsonBody<Cancel>,
) -> Result<Json<Cancelled>> {
    let agent_id = caller.agent_id.clone();
    let deciding = Deciding {
        request_id,
        by: Authority::Agent(caller),
        outcome: Outcome::Cancelled,
        written: None,
        reason: cancel.reason.map(Into::into),
        action_digest: None,
        traceparent: Some(trace.traceparent.clone()),
    };
    let (decision, _) = state.relay.decide(deciding).await?;
    Ok(Json(Cancelled { agent_id, decision }))
}
