//! The caller: `GET /v1/hitl/me`.

use axum::Json;
use relaytrace_domain::TenantId;
use relaytrace_service::auth::{Operator, SignedIn};
use relaytrace_service::http::Problem;
use serde::Serialize;
use utoipa::ToSchema;

/// A person as the deployment knows them from their token.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    id: String,
    name: Option<String>,
    roles: Vec<&'static str>,
    groups: Vec<String>,
    tenant: TenantId,
}

/// See who you are
///
/// As the deployment reads the token, which need not be as the page would.
#[utoipa::path(
    get, path = "/v1/hitl/me", tag = "decide", security(("operator" = [])),
    responses(
        (status = 200, description = "The caller", body = Me),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn me(_: Operator, SignedIn(person): SignedIn) -> Json<Me> {
    let roles = [(person.is_operator, "operator"), (person.is_admin, "admin"), (person.is_owner, "owner")];
    let roles = roles.into_iter().filter_map(|(has, role)| has.then_some(role)).collect();
    Json(Me { id: person.id, name: person.name, roles, groups: person.groups, tenant: person.tenant })
}
