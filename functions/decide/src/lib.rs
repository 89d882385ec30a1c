//! `decide`: operators see the queue and decide; everyone finds the page, the API's description and the receipt keys.

mod answer;
mod assignment;
mod batch;
mod browsers;
mod conditional;
mod delegations;
mod detail;
mod filter;
mod me;
mod operators;
mod page;
mod queue;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use relaytrace_domain::{Cause, RequestId, Verdict};
use relaytrace_domain::{Error, Result};
use relaytrace_service::auth::Operator;
use relaytrace_service::http::{JsonBytes, Path, Problem, RequestOf, Routes, Trace};
use relaytrace_service::{AppState, DatabaseAuthority};
use relaytrace_store::{Authority, Deciding, Scope};

use answer::{Body, Given};

/// The routes of this function.
pub fn router() -> Routes {
    relaytrace_service::routes!(
        queue::list,
        detail::detail,
        me::me,
        operators::list,
        decide,
        batch::decide_all,
        assignment::reroute,
        assignment::claim,
        assignment::release,
        delegations::list,
        delegations::set,
        delegations::end,
        browsers::list,
        browsers::set,
        browsers::end,
        receipt_keys,
        page::openapi
    )
    .route("/v1/hitl/requests", MethodRouter::new().fallback(queue::not_allowed))
    .route("/", get(page::index))
    .route("/page/{file}", get(page::asset))
    .route("/sw.js", get(page::service_worker))
    .needing(DatabaseAuthority::People, |needs| needs.receipts().causes(&[Cause::Operator]))
}

/// Approve, reject, edit or respond
///
/// Checked in this order: decided already, past `respond_by`, not offered or against the agent's schema, another digest,
/// an own request, a vote on record. The same operator's same answer again is 200. Where more than one approval is
/// required, each but the last answers 201 with the approvals so far.
#[utoipa::path(
    post, path = "/v1/hitl/requests/{request_id}/decision", tag = "decide", security(("operator" = [])),
    params(("request_id" = String, Path)), request_body = Body,
    responses(
        (status = 201, description = "Decided; or a vote, where others are needed", body = Verdict),
        (status = 200, description = "The same operator answered like this before", body = Verdict),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn decide(
    Operator(scope): Operator,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response> {
    let given = Given::parse(&bytes)?;
    let scope = match &given.acts_for {
        Some(operator) => state.store.acting_for(scope, operator).await?,
        None => scope,
    };
    let deciding = Deciding {
        request_id,
        by: Authority::Operator(scope.clone()),
        outcome: given.outcome(),
        written: None,
        reason: given.reason.clone().map(Into::into),
        action_digest: given.action_digest,
        traceparent: Some(trace.traceparent.clone()),
    };
    let (verdict, is_new) = if given.writes() {
        write(&state, &scope, deciding, &given).await?
    } else {
        state.relay.answer(deciding).await?
    };
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, Json(verdict)).into_response();
    response.extensions_mut().insert(RequestOf(request_id));
    Ok(response)
}

/// An edit or a response, checked against the answers and schemas of its agent.
///
/// Where the request is over, nothing was judged, so nothing is written, and the answer is how it stands. Also where a sweep
/// opens the request again meanwhile.
async fn write(state: &AppState, scope: &Scope, mut deciding: Deciding, given: &Given) -> Result<(Verdict, bool)> {
    let asked = state.store.asked(scope, deciding.request_id).await?;
    let written = given.written(&asked);
    if asked.is_open {
        deciding.written = Some(written?);
        return state.relay.answer(deciding).await;
    }
    match written {
        Ok(written) => {
            deciding.written = Some(written);
            Ok((Verdict::Decided(Box::new(state.store.decided_before(&deciding).await?.decision)), false))
        }
        Err(error) => match state.store.decided_before(&deciding).await {
            Ok(decided) => Err(Error::AlreadyDecided(Box::new(decided.decision))),
            Err(stands @ (Error::AlreadyDecided(_) | Error::Expired { .. } | Error::NotFound)) => Err(stands),
            Err(_) => Err(error),
        },
    }
}

/// The public keys of receipts
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "decide",
    responses((status = 200, description = "A JWK set, older keys included", body = Object))
)]
async fn receipt_keys(State(state): State<AppState>) -> Result<Json<serde_json::Value>, Error> {
    Ok(Json(state.receipt_keys.jwks().clone()))
}
