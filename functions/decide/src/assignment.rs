//! Who is to decide a request, and who is at it (contract, "Who may decide").

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use relaytrace_domain::rules::{MAX_BYTES_OF_NAMES, Whole};
use relaytrace_domain::{Actor, AssignedTo, Error, GroupName, PersonId, Reason, RequestId, Result, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Colleague, Operator};
use relaytrace_service::http::{JsonBody, Path, Problem, Trace};
use relaytrace_store::Rerouting;
use serde::Serialize;
use utoipa::ToSchema;

/// Whom to ask instead.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct Assignment {
    /// Operators of these groups may decide.
    #[deserr(default, from(Vec<GroupName>) = Some)]
    #[schema(nullable = false)]
    groups: Option<Vec<GroupName>>,
    /// These operators may decide.
    #[deserr(default, from(Vec<PersonId>) = Some)]
    #[schema(nullable = false)]
    operators: Option<Vec<PersonId>>,
    /// 1 to 2,000 characters.
    reason: Reason,
}

impl Assignment {
    fn to(&self) -> Result<AssignedTo> {
        fn texts<T: ToString>(list: Option<&Vec<T>>) -> Vec<String> {
            let mut texts: Vec<_> = list.into_iter().flatten().map(ToString::to_string).collect();
            texts.sort_unstable();
            texts.dedup();
            texts
        }
        let to = AssignedTo { groups: texts(self.groups.as_ref()), operators: texts(self.operators.as_ref()) };
        if to.groups.is_empty() && to.operators.is_empty() {
            return Err(Error::invalid("/groups", "must name a group, or operators an operator"));
        }
        if to.groups.len() > MOST_NAMES || to.operators.len() > MOST_NAMES {
            return Err(Error::invalid("", format!("must name at most {MOST_NAMES} groups and as many operators")));
        }
        if to.groups.iter().chain(&to.operators).map(String::len).sum::<usize>() > MAX_BYTES_OF_NAMES {
            return Err(Error::invalid("", "must take at most 4 KiB for all names together"));
        }
        Ok(to)
    }
}

/// Most groups or operators of an assignment.
const MOST_NAMES: usize = 100;

/// Whom a request is assigned to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Assigned {
    request_id: RequestId,
    assigned_to: AssignedTo,
}

/// Reroute
///
/// By those who may decide it, to groups of its rule and of the rule's `reroute_to`, and to operators of these; anywhere by an
/// administrator. Votes stay where their voters are still assigned. The same again: 200.
#[utoipa::path(
    put, path = "/v1/hitl/requests/{request_id}/assignment", tag = "decide",
    security(("operator" = []), ("admin" = [])), params(("request_id" = String, Path)), request_body = Assignment,
    responses(
        (status = 200, description = "Rerouted, now or before", body = Assigned),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn reroute(
    Colleague(scope): Colleague,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(assignment): JsonBody<Assignment>,
) -> Result<Json<Assigned>> {
    let to = assignment.to()?;
    let traceparent = Some(trace.traceparent.clone());
    let rerouting = Rerouting { request_id, scope, to: to.clone(), reason: assignment.reason, traceparent };
    state.relay.reroute(rerouting).await?;
    Ok(Json(Assigned { request_id, assigned_to: to }))
}

/// How long somebody says to be at a request.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewClaim {
    /// 60 to 3,600.
    #[schema(value_type = i32, minimum = 60, maximum = 3600)]
    seconds: Whole<60, 3600>,
}

/// Who says to be at a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct Claimed {
    request_id: RequestId,
    claimed_by: Actor,
    claimed_until: Timestamp,
}

/// Say that you are at it
///
/// Advice to others, no lock: whoever says it later is at it then. Released by the decision, and by its end.
#[utoipa::path(
    put, path = "/v1/hitl/requests/{request_id}/claim", tag = "decide", security(("operator" = [])),
    params(("request_id" = String, Path)), request_body = NewClaim,
    responses(
        (status = 200, description = "Claimed from now on", body = Claimed),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn claim(
    Operator(scope): Operator,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    JsonBody(claim): JsonBody<NewClaim>,
) -> Result<Json<Claimed>> {
    let until = state.store.claim(&scope, request_id, claim.seconds.0).await?;
    Ok(Json(Claimed { request_id, claimed_by: scope.actor, claimed_until: Timestamp(until) }))
}

/// Take your claim back
#[utoipa::path(
    delete, path = "/v1/hitl/requests/{request_id}/claim", tag = "decide", security(("operator" = [])),
    params(("request_id" = String, Path)),
    responses(
        (status = 204, description = "The caller claims nothing here"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn release(
    Operator(scope): Operator,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
) -> Result<StatusCode> {
    state.store.release_claim(&scope, request_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
