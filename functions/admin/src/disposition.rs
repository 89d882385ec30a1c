//! Dispositions: what an administrator does with a request that is stuck.

use axum::Json;
use axum::extract::{Extension, State};
use relaytrace_domain::{Decision, DeliveryState, Faults, Outcome, Priority, Reason, RequestId, Status, Timestamp};
use relaytrace_domain::{Error, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{JsonBody, Path, Problem, Trace};
use relaytrace_store::{Adjustment, Authority, Deciding, Scope};
use serde::Serialize;
use utoipa::ToSchema;

/// What an administrator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, deserr::Deserr, ToSchema)]
#[serde(rename_all = "lowercase")]
#[deserr(rename_all = lowercase)]
enum DispositionAction {
    /// Withdraw the question.
    Cancel,
    /// Reject it.
    Reject,
    /// Give it more time, until `respond_by`.
    Extend,
    /// Give it another `priority`; its time stays.
    Reprioritise,
    /// Send its decision to the agent again.
    Requeue,
}

/// What an administrator does with a request.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewDisposition {
    action: DispositionAction,
    /// 1 to 2,000 characters.
    reason: Reason,
    /// To extend: later than the one that stands.
    #[deserr(default, from(Timestamp) = Some)]
    #[schema(nullable = false)]
    respond_by: Option<Timestamp>,
    /// To reprioritise.
    #[deserr(default, from(Priority) = Some)]
    #[schema(nullable = false)]
    priority: Option<Priority>,
}

/// A disposition whose members fit its action.
enum Disposition {
    Decide(Outcome),
    Adjust(Adjustment),
    Requeue,
}

impl NewDisposition {
    fn parse(&self) -> Result<Disposition> {
        use DispositionAction as Do;
        let mut faults = Faults::default();
        if self.respond_by.is_some() != (self.action == Do::Extend) {
            faults.add("/respond_by", "is required to extend, and for nothing else");
        }
        if self.priority.is_some() != (self.action == Do::Reprioritise) {
            faults.add("/priority", "is required to reprioritise, and for nothing else");
        }
        match (self.action, self.respond_by, self.priority) {
            _ if !faults.is_empty() => Err(faults.into()),
            (Do::Extend, Some(until), _) => Ok(Disposition::Adjust(Adjustment::Extend(until))),
            (Do::Reprioritise, _, Some(priority)) => Ok(Disposition::Adjust(Adjustment::Reprioritise(priority))),
            (Do::Cancel, ..) => Ok(Disposition::Decide(Outcome::Cancelled)),
            (Do::Reject, ..) => Ok(Disposition::Decide(Outcome::Rejected)),
            _ => Ok(Disposition::Requeue),
        }
    }
}

/// The request after a disposition.
#[derive(Debug, Serialize, ToSchema)]
pub struct Disposed {
    request_id: RequestId,
    action: DispositionAction,
    status: Status,
    priority: Priority,
    respond_by: Timestamp,
    decision: Option<Decision>,
    delivery: Option<DisposedDelivery>,
}

/// The delivery of its decision.
#[derive(Debug, Serialize, ToSchema)]
struct DisposedDelivery {
    state: DeliveryState,
    attempt: i32,
}

/// Put a request right
///
/// Each is an entry of the chain. The same administrator's same disposition again changes nothing.
#[utoipa::path(
    post, path = "/v1/admin/requests/{request_id}/disposition", tag = "admin", security(("admin" = [])),
    params(("request_id" = String, Path)), request_body = NewDisposition,
    responses(
        (status = 200, description = "Done, now or before", body = Disposed),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn dispose(
    Admin(scope): Admin,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(new): JsonBody<NewDisposition>,
) -> Result<Json<Disposed>> {
    let disposition = new.parse()?;
    perform(&state, request_id, &disposition, scope.clone(), new.reason.into(), trace.traceparent.clone()).await?;
    let detail = state.store.detail(&scope, request_id).await?.ok_or(Error::NotFound)?;
    Ok(Json(Disposed {
        request_id,
        action: new.action,
        status: detail.item.status,
        priority: detail.item.priority,
        respond_by: Timestamp(detail.item.respond_by),
        decision: detail.decision,
        delivery: detail.delivery.map(|seen| DisposedDelivery { state: seen.state, attempt: seen.attempt }),
    }))
}

async fn perform(
    state: &AppState,
    request_id: RequestId,
    disposition: &Disposition,
    scope: Scope,
    reason: String,
    traceparent: String,
) -> Result<()> {
    let relay = &state.relay;
    match *disposition {
        Disposition::Decide(outcome) => {
            let (reason, traceparent, action_digest) = (Some(reason), Some(traceparent), None);
            let by = Authority::Admin(scope);
            relay
                .decide(Deciding { request_id, by, outcome, written: None, reason, action_digest, traceparent })
                .await
                .map(drop)
        }
        Disposition::Adjust(adjustment) => relay.adjust(scope, request_id, adjustment, reason).await,
        Disposition::Requeue => relay.requeue(scope, request_id, reason, traceparent).await,
    }
}
