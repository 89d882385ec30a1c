//! Tenants, for owners (contract, "Tenants").

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use relaytrace_domain::{Error, Faults, Reason, Result, TenantId, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::Owner;
use relaytrace_service::http::{Cursor, JsonBody, Page, Path, Problem, Query, clamped};
use relaytrace_store::{TenantLimits, TenantRecord};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// No limit is larger.
const LARGEST: u32 = 1_000_000;

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantView {
    tenant_id: TenantId,
    /// `active` or `suspended`.
    status: String,
    limits: LimitsView,
    created_at: Timestamp,
}

/// The limits of a tenant; null: none.
#[derive(Debug, Serialize, ToSchema)]
struct LimitsView {
    /// Submissions in a minute that each process takes of its agents.
    submissions_per_minute: Option<i32>,
    /// Agents that are not disabled.
    agents: Option<i32>,
}

impl From<TenantRecord> for TenantView {
    fn from(tenant: TenantRecord) -> Self {
        Self {
            tenant_id: tenant.tenant_id,
            status: tenant.status,
            limits: LimitsView { submissions_per_minute: tenant.submissions_per_minute, agents: tenant.max_agents },
            created_at: Timestamp(tenant.created_at),
        }
    }
}

/// Limits as they are given; null takes one away.
#[derive(Debug, Default, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "a limit is left out, null or a number")]
struct Limits {
    #[deserr(default, from(Option<u32>) = Some)]
    #[schema(value_type = Option<u32>, required = false, minimum = 1, maximum = 1_000_000)]
    submissions_per_minute: Option<Option<u32>>,
    #[deserr(default, from(Option<u32>) = Some)]
    #[schema(value_type = Option<u32>, required = false, minimum = 1, maximum = 1_000_000)]
    agents: Option<Option<u32>>,
}

impl Limits {
    fn check(&self) -> Result<TenantLimits> {
        let mut faults = Faults::default();
        let given = [("/limits/submissions_per_minute", self.submissions_per_minute), ("/limits/agents", self.agents)];
        for (pointer, limit) in given {
            if limit.flatten().is_some_and(|limit| !(1..=LARGEST).contains(&limit)) {
                faults.add(pointer, format!("must be 1 to {LARGEST}, or null for no limit"));
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        let stored = |limit: Option<Option<u32>>| limit.map(|limit| limit.map(u32::cast_signed));
        Ok(TenantLimits {
            submissions_per_minute: stored(self.submissions_per_minute),
            max_agents: stored(self.agents),
        })
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// From the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct TenantCursor(TenantId);

impl Cursor for TenantCursor {}

/// List tenants
#[utoipa::path(
    get, path = "/v1/admin/tenants", tag = "admin", security(("owner" = [])), params(ListQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<TenantView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    _: Owner,
    State(state): State<AppState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<TenantView>>> {
    let mut faults = Faults::default();
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.cursor.as_deref().map(TenantCursor::decode).transpose()?;
    let tenants = state.store.tenants(after.as_ref().map(|TenantCursor(id)| id.as_str()), limit + 1).await?;
    Ok(Json(Page::of(tenants, limit, |last| TenantCursor(last.tenant_id.clone()))))
}

/// A new tenant.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewTenant {
    /// `[a-z0-9][a-z0-9-]{0,62}`, never free again.
    tenant_id: TenantId,
    #[deserr(default)]
    #[schema(required = false)]
    limits: Limits,
}

/// Make a tenant
#[utoipa::path(
    post, path = "/v1/admin/tenants", tag = "admin", security(("owner" = [])), request_body = NewTenant,
    responses(
        (status = 201, description = "Made", body = TenantView),
        (status = 200, description = "Made before with the same limits", body = TenantView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn register(
    Owner(by): Owner,
    State(state): State<AppState>,
    JsonBody(new): JsonBody<NewTenant>,
) -> Result<(StatusCode, Json<TenantView>)> {
    let (tenant, is_new) = state.store.register_tenant(&by, &new.tenant_id, new.limits.check()?).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(tenant.into())))
}

/// Whether a tenant's tokens are accepted.
#[derive(Clone, Copy, Debug, deserr::Deserr, ToSchema)]
#[schema(rename_all = "lowercase")]
#[deserr(rename_all = lowercase)]
enum TenantStatus {
    Active,
    Suspended,
}

impl TenantStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// A change of a tenant. What is left out stays as it is.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct TenantChange {
    #[deserr(default, from(TenantStatus) = Some)]
    #[schema(value_type = TenantStatus, required = false)]
    status: Option<TenantStatus>,
    #[deserr(default)]
    #[schema(required = false)]
    limits: Limits,
    /// For the log: 1 to 2,000 characters.
    #[deserr(default, from(Reason) = Some)]
    #[schema(value_type = Reason, required = false)]
    reason: Option<Reason>,
}

/// Suspend, open again or limit a tenant
///
/// In force in every process within 5 s.
#[utoipa::path(
    patch, path = "/v1/admin/tenants/{tenant_id}", tag = "admin", security(("owner" = [])),
    params(("tenant_id" = String, Path)), request_body = TenantChange,
    responses(
        (status = 200, description = "As it is now", body = TenantView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change(
    Owner(by): Owner,
    Path(tenant_id): Path<TenantId>,
    State(state): State<AppState>,
    JsonBody(change): JsonBody<TenantChange>,
) -> Result<Json<TenantView>> {
    let limits = change.limits.check()?;
    let status = change.status.map(TenantStatus::as_str);
    let reason = change.reason.as_ref().map(Reason::as_str);
    let changed = state.store.change_tenant(&by, &tenant_id, status, limits, reason).await?;
    Ok(Json(changed.ok_or(Error::NotFound)?.into()))
}
