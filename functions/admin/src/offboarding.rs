//! Offboarding: an agent or a whole tenant ends, and its record stays.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use futures_util::StreamExt as _;
use relaytrace_domain::{AgentId, Error, Outcome, Reason, RequestId, Result, TenantId};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Admin, Owner};
use relaytrace_service::http::{JsonBody, Path, Problem, Trace};
use relaytrace_store::{Authority, Deciding, Scope};
use serde::Serialize;
use utoipa::ToSchema;

/// Requests that are looked up at a time.
const BATCH: i64 = 200;
/// Requests that are cancelled at the same time.
const AT_ONCE: usize = 16;
/// Longest time of one call; the same call again goes on.
const BEFORE_THE_ANSWER: Duration = Duration::from_secs(3);

/// What becomes of pending requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, deserr::Deserr, ToSchema)]
enum Pending {
    /// They are cancelled.
    #[schema(rename = "cancel")]
    #[deserr(rename = "cancel")]
    Cancel,
    /// They stay with the operators; what is approved, an executor of the tenant may use.
    #[schema(rename = "hand_over")]
    #[deserr(rename = "hand_over")]
    HandOver,
}

/// How something ends.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewOffboarding {
    /// 1 to 2,000 characters.
    reason: Reason,
    pending: Pending,
}

/// What one call did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Offboarded {
    /// The agent; absent where the tenant ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<AgentId>,
    tenant_id: TenantId,
    /// Keys that were alive until this call.
    keys_revoked: i64,
    /// Requests that this call cancelled.
    cancelled: usize,
    /// Whether nothing is left to do; else the same call again goes on.
    done: bool,
}

/// Offboard an agent
///
/// It is disabled, its keys are revoked for good, and what it has pending is cancelled or handed over. Its requests,
/// decisions and chains stay, and its id is never free again.
#[utoipa::path(
    post, path = "/v1/admin/agents/{agent_id}/offboarding", tag = "admin", security(("admin" = [])),
    params(("agent_id" = String, Path)), request_body = NewOffboarding,
    responses(
        (status = 200, description = "What this call did", body = Offboarded),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn offboard_agent(
    Admin(scope): Admin,
    Path(agent_id): Path<AgentId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(new): JsonBody<NewOffboarding>,
) -> Result<Json<Offboarded>> {
    let ended = state.store.offboard_agent(&scope, &agent_id, new.reason.as_str()).await?;
    let keys_revoked = ended.ok_or(Error::NotFound)?;
    let tenant_id = scope.tenant.clone();
    let (cancelled, done) = match new.pending {
        Pending::Cancel => cancel(&state, scope, Some(&agent_id), &new.reason, &trace.traceparent).await?,
        Pending::HandOver => (0, true),
    };
    Ok(Json(Offboarded { agent_id: Some(agent_id), tenant_id, keys_revoked, cancelled, done }))
}

/// Offboard a tenant
///
/// It is suspended, the keys of its agents are revoked for good, and what is pending is cancelled, or left to the timeouts
/// where it is handed over. Its record stays, and its id is never free again.
#[utoipa::path(
    post, path = "/v1/admin/tenants/{tenant_id}/offboarding", tag = "admin", security(("owner" = [])),
    params(("tenant_id" = String, Path)), request_body = NewOffboarding,
    responses(
        (status = 200, description = "What this call did", body = Offboarded),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn offboard_tenant(
    Owner(by): Owner,
    Path(tenant_id): Path<TenantId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(new): JsonBody<NewOffboarding>,
) -> Result<Json<Offboarded>> {
    let ended = state.store.offboard_tenant(&by, &tenant_id, new.reason.as_str()).await?;
    let keys_revoked = ended.ok_or(Error::NotFound)?;
    // An owner decides nothing: the offboarding does.
    let scope = Scope { tenant: tenant_id.clone(), ..Scope::of_program("offboarding") };
    let (cancelled, are_none_pending) = match new.pending {
        Pending::Cancel => cancel(&state, scope, None, &new.reason, &trace.traceparent).await?,
        Pending::HandOver => (0, true),
    };
    let done = are_none_pending && keys_revoked == 0;
    Ok(Json(Offboarded { agent_id: None, tenant_id, keys_revoked, cancelled, done }))
}

/// Cancels what is pending of a tenant or of one of its agents, as far as the time goes: how many, and whether these were
/// all.
async fn cancel(
    state: &AppState,
    scope: Scope,
    agent_id: Option<&AgentId>,
    reason: &Reason,
    traceparent: &str,
) -> Result<(usize, bool)> {
    let started = tokio::time::Instant::now();
    let mut cancelled = 0;
    loop {
        let pending = state.store.pending_to_end(&scope.tenant, agent_id, BATCH).await?;
        if pending.is_empty() {
            return Ok((cancelled, true));
        }
        if started.elapsed() >= BEFORE_THE_ANSWER {
            return Ok((cancelled, false));
        }
        let decisions =
            pending.into_iter().map(|request_id| cancel_one(state, &scope, request_id, reason, traceparent));
        let mut decisions = futures_util::stream::iter(decisions).buffer_unordered(AT_ONCE);
        while let Some(is_new) = decisions.next().await {
            cancelled += usize::from(is_new?);
        }
    }
}

/// Whether this call cancelled it: somebody may have decided it meanwhile.
async fn cancel_one(
    state: &AppState,
    scope: &Scope,
    request_id: RequestId,
    reason: &Reason,
    traceparent: &str,
) -> Result<bool> {
    let deciding = Deciding {
        request_id,
        by: Authority::Admin(scope.clone()),
        outcome: Outcome::Cancelled,
        written: None,
        reason: Some(reason.as_str().to_owned()),
        action_digest: None,
        traceparent: Some(traceparent.to_owned()),
    };
    match state.relay.decide(deciding).await {
        Ok((_, is_new)) => Ok(is_new),
        Err(Error::AlreadyDecided(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
