//! `poll`: agents learn what was decided, and say that they have it.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use relaytrace_domain::{AckResult, AgentId, DeliveryState, ErrorCode, Faults, Reason, RequestId, Timestamp};
use relaytrace_domain::{Error, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::Agent;
use relaytrace_service::http::{
    DecisionView, JsonBody, Path, Problem, Query, RequestView, Routes, Trace, clamped, parse_list, preferred_wait,
};
use relaytrace_store::{Ack, Caller, LeaseOrder, Leased};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A waiting poll looks again this often while NATS is away: the contract's 500 ms.
const LOOK_AGAIN_WITHOUT_NATS: Duration = Duration::from_millis(500);
/// And this often otherwise: a wake-up may be lost with the process that should have sent it. Each look is a statement:
/// thousands of polls wait at the same time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The routes of this function.
pub fn router() -> Routes {
    relaytrace_service::routes!(poll, acknowledge, request)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PollQuery {
    /// Longest wait, 0 to 20 seconds; default 0. The header `Prefer: wait=n` means the same; this one wins.
    #[param(value_type = Option<u64>)]
    wait_seconds: Option<String>,
    /// At most so many decisions, 1 to 100; default 10.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
    /// Only these requests; repeatable, up to 100.
    #[serde(default)]
    request_id: Vec<String>,
}

struct Asked {
    wait_seconds: u64,
    limit: i64,
    request_ids: Option<Vec<RequestId>>,
}

impl PollQuery {
    fn parse(self, headers: &HeaderMap) -> Result<Asked> {
        const MOST_REQUESTS: usize = 100;
        let mut faults = Faults::default();
        let wait_seconds = self.wait_seconds.or_else(|| preferred_wait(headers));
        let wait_seconds = clamped(&mut faults, "wait_seconds", wait_seconds.as_deref(), 0, 0, 20);
        let limit = clamped(&mut faults, "limit", self.limit.as_deref(), 10, 1, 100);
        let request_ids = parse_list(&mut faults, "request_id", &self.request_id);
        if request_ids.len() > MOST_REQUESTS {
            faults.add("/request_id", format!("may be given at most {MOST_REQUESTS} times"));
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        let request_ids = if self.request_id.is_empty() { None } else { Some(request_ids) };
        Ok(Asked { wait_seconds, limit: limit.cast_signed(), request_ids })
    }
}

/// What a poll got.
#[derive(Debug, Serialize, ToSchema)]
struct Polled {
    agent_id: AgentId,
    polled_at: Timestamp,
    /// More is ready: poll again at once.
    has_more: bool,
    decisions: Vec<DecisionView>,
    /// This deployment waits for less than was asked: come back after so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// Wait for decisions
///
/// Returns at once if anything is ready, else as soon as it is, else after `wait_seconds` with an empty list. What is
/// returned is leased: acknowledge it before `lease_expires_at`.
#[utoipa::path(
    get, path = "/v1/agents/{agent_id}/decisions/poll", tag = "poll", security(("agent" = [])),
    params(("agent_id" = String, Path), PollQuery),
    responses(
        (status = 200, description = "What is ready, perhaps nothing", body = Polled),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn poll(
    Agent(caller): Agent,
    State(state): State<AppState>,
    headers: HeaderMap,
    Query(query): Query<PollQuery>,
) -> Result<Json<Polled>> {
    let asked = query.parse(&headers)?;
    let wait_seconds = asked.wait_seconds.min(state.delivery.max_wait_seconds);
    let leased = lease_or_wait(&state, &caller, &asked, Duration::from_secs(wait_seconds)).await?;
    let was_cut_short = wait_seconds < asked.wait_seconds && leased.deliveries.is_empty();
    let (polled_at, has_more) = (Timestamp(leased.polled_at), leased.has_more);
    let deliveries = leased.deliveries.into_iter();
    let decisions = deliveries.map(|delivered| DecisionView::new(delivered, &caller.agent_id, &state.receipt_keys));
    Ok(Json(Polled {
        polled_at,
        has_more,
        decisions: decisions.collect::<Result<_>>()?,
        retry_after_ms: was_cut_short.then_some(1_000),
        agent_id: caller.agent_id,
    }))
}

/// Reads; if there is nothing gets in line, reads again, and waits. Postgres is read, never NATS.
async fn lease_or_wait(state: &AppState, caller: &Caller, asked: &Asked, longest: Duration) -> Result<Leased> {
    let ids: Option<Vec<Uuid>> = asked.request_ids.as_ref().map(|ids| ids.iter().map(|id| id.0).collect());
    let order = |look_ahead| LeaseOrder {
        caller,
        limit: asked.limit,
        request_ids: ids.as_deref(),
        lease_seconds: state.delivery.lease_seconds,
        max_attempts: state.delivery.max_attempts,
        look_ahead,
    };
    // Boxed: a poll that is parked does not hold room for a statement.
    let lease = async |look_ahead| Box::pin(state.store.lease(&order(look_ahead))).await;
    let deadline = Instant::now() + longest;
    let leased = lease(Duration::ZERO).await?;
    if !leased.deliveries.is_empty() || longest.is_zero() {
        return Ok(leased);
    }
    let parked = Box::pin(state.events.park(&caller.agent_id, asked.request_ids.as_deref())).await;
    loop {
        let look_again = if state.events.is_connected_now() { LOOK_AGAIN } else { LOOK_AGAIN_WITHOUT_NATS };
        let leased = lease(look_again).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        if !leased.deliveries.is_empty() || left.is_zero() || state.events.is_stopping() {
            return Ok(leased);
        }
        let until_visible = leased.next_visible_at.and_then(|at| (at - leased.polled_at).to_std().ok());
        // A moment later than it becomes visible: the database compares microseconds.
        let until_visible = until_visible.map_or(look_again, |wait| wait + Duration::from_millis(1));
        parked.wait(left.min(look_again).min(until_visible)).await;
        parked.requeue();
    }
}

/// What an agent says of a delivery.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
struct Acknowledgement {
    /// Of the delivery that is acknowledged.
    delivery_id: String,
    result: AckResult,
    /// What went wrong, with `retry` and `failed`.
    #[deserr(default)]
    error: Option<DeliveryError>,
}

/// What went wrong at the agent.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
struct DeliveryError {
    /// For programs.
    code: ErrorCode,
    /// For people.
    #[deserr(default)]
    message: Option<Reason>,
}

/// What became of a delivery.
#[derive(Debug, Serialize, ToSchema)]
struct Acknowledged {
    agent_id: AgentId,
    request_id: RequestId,
    delivery_id: String,
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
async fn acknowledge(
    Agent(caller): Agent,
    Path((_, request_id)): Path<(String, RequestId)>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(said): JsonBody<Acknowledgement>,
) -> Result<Json<Acknowledged>> {
    // What is no UUID cannot be the latest delivery's id either.
    let delivery_id = Uuid::parse_str(&said.delivery_id).ok();
    let (code, message) = said.error.map(|error| (error.code, error.message)).unzip();
    let agent_id = caller.agent_id.clone();
    let ack = Ack {
        caller,
        request_id,
        delivery_id,
        result: said.result,
        error_code: code.map(Into::into),
        error_message: message.flatten().map(Into::into),
        max_attempts: state.delivery.max_attempts,
        traceparent: Some(trace.traceparent.clone()),
    };
    let acked = state.relay.acknowledge(ack).await?;
    let delivery_id = delivery_id.ok_or(Error::StaleDelivery)?.to_string();
    Ok(Json(Acknowledged { agent_id, request_id, delivery_id, state: acked.state, attempt: acked.attempt }))
}

/// A request with its decision, if it has one.
#[derive(Debug, Serialize, ToSchema)]
struct RequestWithDecision {
    #[serde(flatten)]
    request: RequestView,
    /// Without a lease: looking is not taking.
    decision: Option<DecisionView>,
}

/// How a request stands
///
/// For an agent that lost its memory: everything but a lease.
#[utoipa::path(
    get, path = "/v1/agents/{agent_id}/requests/{request_id}", tag = "poll", security(("agent" = [])),
    params(("agent_id" = String, Path), ("request_id" = String, Path)),
    responses(
        (status = 200, description = "The request", body = RequestWithDecision),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn request(
    Agent(caller): Agent,
    Path((_, request_id)): Path<(String, RequestId)>,
    State(state): State<AppState>,
) -> Result<Json<RequestWithDecision>> {
    let (request, delivered) = state.store.request_of(&caller, request_id).await?;
    let decision = delivered.map(|delivered| DecisionView::new(delivered, &caller.agent_id, &state.receipt_keys));
    let decision = decision.transpose()?;
    Ok(Json(RequestWithDecision { request: RequestView::new(request, false), decision }))
}
