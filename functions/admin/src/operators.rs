//! Operators that an administrator blocks (contract, "Operators").

use axum::Json;
use axum::extract::State;
use relaytrace_domain::{Error, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{JsonBody, OperatorView, Path, Problem};
use utoipa::ToSchema;

/// Whether an operator may do anything.
#[derive(Clone, Copy, Debug, deserr::Deserr, ToSchema)]
#[schema(rename_all = "lowercase")]
#[deserr(rename_all = lowercase)]
enum OperatorStatus {
    Active,
    Blocked,
}

/// A change of an operator.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct OperatorChange {
    status: OperatorStatus,
}

/// Block an operator, or let them in again
///
/// In force in every process within 60 s: from then on each of their calls is 403.
#[utoipa::path(
    patch, path = "/v1/admin/operators/{operator_id}", tag = "admin", security(("admin" = [])),
    params(("operator_id" = String, Path)), request_body = OperatorChange,
    responses(
        (status = 200, description = "As they are now", body = OperatorView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change(
    Admin(scope): Admin,
    Path(operator_id): Path<String>,
    State(state): State<AppState>,
    JsonBody(change): JsonBody<OperatorChange>,
) -> Result<Json<OperatorView>> {
    let status = match change.status {
        OperatorStatus::Active => "active",
        OperatorStatus::Blocked => "blocked",
    };
    if operator_id.contains('\0') {
        return Err(Error::NotFound);
    }
    let changed = state.store.set_operator(&scope, &operator_id, status).await?;
    Ok(Json(changed.ok_or(Error::NotFound)?.into()))
}
