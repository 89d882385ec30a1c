//! `poll`: agents receive decisions and acknowledge them.

mod acknowledge;
mod permits;
mod requests;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use relaytrace_domain::{AgentId, Faults, RequestId, Result, Timestamp};
use relaytrace_service::auth::{Agent, Ask};
use relaytrace_service::events::WaitsFor;
use relaytrace_service::http::{DecisionView, PreferredWait, Problem, Query, Routes, clamped, parse_list};
use relaytrace_service::wait::{At, Look, Looking, wait_seconds};
use relaytrace_service::{AppState, DatabaseAuthority};
use relaytrace_store::{Caller, Delivered, LeaseOrder, Leased};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The routes of this function.
pub fn router() -> Routes {
    relaytrace_service::routes!(
        poll,
        acknowledge::acknowledge,
        requests::request,
        requests::list,
        permits::consume,
        permits::consume_any,
        permits::outcome,
        permits::outcome_any
    )
    .needing(DatabaseAuthority::Agent, |needs| needs.responses().receipts())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PollQuery {
    /// Longest wait, 0 to 55 seconds; default 0. `Prefer: wait=n` means the same; this wins.
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
    fn parse(self, preferred: PreferredWait) -> Result<Asked> {
        const MOST_REQUESTS: usize = 100;
        let mut faults = Faults::default();
        let wait_seconds = wait_seconds(&mut faults, self.wait_seconds, preferred);
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
    Agent(caller, _): Agent<Ask>,
    State(state): State<AppState>,
    preferred: PreferredWait,
    Query(query): Query<PollQuery>,
) -> Result<Json<Polled>> {
    let asked = query.parse(preferred)?;
    let wait_seconds = asked.wait_seconds.min(state.store.rules().max_wait_seconds);
    let leased = lease_or_wait(&state, &caller, &asked, Duration::from_secs(wait_seconds)).await?;
    let (leased, decisions) = leased;
    let was_cut_short = wait_seconds < asked.wait_seconds && decisions.is_empty();
    Ok(Json(Polled {
        polled_at: Timestamp(leased.polled_at),
        has_more: leased.has_more,
        decisions,
        retry_after_ms: was_cut_short.then_some(1_000),
        agent_id: caller.agent_id,
    }))
}

/// What a poll leased, and what of it the agent gets.
type Answered = (Leased, Vec<DecisionView>);

async fn lease_or_wait(state: &AppState, caller: &Caller, asked: &Asked, longest: Duration) -> Result<Answered> {
    let ids: Option<Vec<Uuid>> = asked.request_ids.as_ref().map(|ids| ids.iter().map(|id| id.0).collect());
    let ids = ids.as_deref();
    let lease = |at| -> Looking<_> {
        Box::pin(async move {
            let (mut handed, look_ahead) = match at {
                At::Database(look_ahead) => (None, look_ahead),
                At::Lease(leased) => (Some(leased), Duration::ZERO),
            };
            let order = LeaseOrder { caller, limit: asked.limit, request_ids: ids, look_ahead };
            loop {
                let mut leased = match handed.take() {
                    Some(leased) => leased,
                    None => state.store.lease(&order).await?,
                };
                let (views, is_withheld) = views(state, caller, std::mem::take(&mut leased.deliveries));
                let delivered = views.iter().filter_map(|view| view.first_delivered_after(leased.polled_at));
                delivered.for_each(|after| state.metrics.delivered(after));
                // What is withheld is leased by now: it does not hold up what is due behind it.
                if views.is_empty() && is_withheld && leased.has_more {
                    continue;
                }
                let there_in = leased.next_visible_at.and_then(|at| (at - leased.polled_at).to_std().ok());
                return Ok(Look { is_there: !views.is_empty(), there_in, found: (leased, views) });
            }
        })
    };
    let waits_for = WaitsFor::Delivery(asked.request_ids.clone());
    relaytrace_service::wait::lease_or_wait(state, caller, waits_for, longest, lease).await
}

/// The decisions as their agent gets them, and whether one is withheld: of a decision that nobody has attested there is no
/// receipt, and its agent gets nothing that it could act on. Its lease ends, and in the end it is a dead letter.
fn views(state: &AppState, caller: &Caller, deliveries: Vec<Delivered>) -> (Vec<DecisionView>, bool) {
    let mut views = Vec::with_capacity(deliveries.len());
    let mut is_withheld = false;
    for delivered in deliveries {
        let request_id = delivered.request_id;
        match DecisionView::new(delivered, &caller.agent_id, &state.receipt_keys) {
            Ok(view) => views.push(view),
            Err(error) => {
                is_withheld = true;
                tracing::error!(error = ?error, request.id = %request_id, "a decision is withheld from its agent");
            }
        }
    }
    (views, is_withheld)
}
