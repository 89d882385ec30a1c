//! What an agent says of a delivery (contract, "Acknowledge").

use axum::Json;
use axum::extract::{Extension, State};
use relaytrace_domain::{AckResult, AgentId, DeliveryState, Error, ErrorCode, Reason, RequestId, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Agent, Ask};
use relaytrace_service::http::{JsonBody, Path, Problem, Trace};
use relaytrace_store::Ack;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// What an agent says of a delivery.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct Acknowledgement {
    /// Of the delivery that is acknowledged: the latest. Left out with `accepted`: whichever it is.
    #[deserr(default, from(String) = Some)]
    #[schema(nullable = false)]
    delivery_id: Option<String>,
    result: AckResult,
    /// What went wrong, with `retry` and `failed`.
    #[deserr(default)]
    error: Option<DeliveryError>,
}

/// What went wrong at the agent.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct DeliveryError {
    /// For programs.
    code: ErrorCode,
    /// For people.
    #[deserr(default)]
    message: Option<Reason>,
}

/// What became of a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct Acknowledged {
    agent_id: AgentId,
    request_id: RequestId,
    /// As the acknowledgement named it.
    delivery_id: Option<String>,
    state: DeliveryState,
    attempt: i32,
}

/// Say what became of a delivery
#[utoipa::path(
    post, path = "/v1/agents/{agent_id}/decisions/{request_id}/ack", tag = "poll", security(("agent" = [])),
    params(("agent_id" = String, Path), ("request_id" = String, Path)), request_body = Acknowledgement,
    responses(
        (status = 200, description = "Taken note of, now or before", body = Acknowledged),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn acknowledge(
    Agent(caller, _): Agent<Ask>,
    Path((_, request_id)): Path<(String, RequestId)>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(said): JsonBody<Acknowledgement>,
) -> Result<Json<Acknowledged>> {
    if said.delivery_id.is_none() && said.result != AckResult::Accepted {
        return Err(Error::invalid("/delivery_id", "is required unless the result is accepted"));
    }
    // What is no UUID names no delivery either, and must not be taken for one that was left out.
    let delivery_id = said.delivery_id.map(|id| Uuid::parse_str(&id).unwrap_or_default());
    let (code, message) = said.error.map(|error| (error.code, error.message)).unzip();
    let agent_id = caller.agent_id.clone();
    let ack = Ack {
        caller,
        request_id,
        delivery_id,
        result: said.result,
        error_code: code.map(Into::into),
        error_message: message.flatten().map(Into::into),
        traceparent: Some(trace.traceparent.clone()),
    };
    let acked = state.relay.acknowledge(ack).await?;
    let delivery_id = delivery_id.map(|id| id.to_string());
    Ok(Json(Acknowledged { agent_id, request_id, delivery_id, state: acked.state, attempt: acked.attempt }))
}
