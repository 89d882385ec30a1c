//! Freezes (contract, "Freezes").

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use relaytrace_domain::Result;
use relaytrace_domain::{ActionType, AgentId, Faults, FreezeId, FreezeMode, Reason, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Cursor, JsonBody, Page, Path, Problem, Query, clamped};
use relaytrace_store::{FreezeFilter, FreezeRecord, FreezeRule};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What to freeze.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewFreeze {
    /// Requests of this agent; absent or null: of any.
    #[deserr(default)]
    agent_id: Option<AgentId>,
    /// Actions of this type; absent or null: of any.
    #[deserr(default)]
    action_type: Option<ActionType>,
    mode: FreezeMode,
    /// When it ends by itself: in the future, and with `hold` within 7 days.
    until: Timestamp,
    /// 1 to 2,000 characters. Agents of requests that a stop rejects are told it.
    reason: Reason,
}

/// A freeze.
#[derive(Debug, Serialize, ToSchema)]
pub struct FreezeView {
    freeze_id: FreezeId,
    /// Null: requests of any agent.
    agent_id: Option<AgentId>,
    /// Null: actions of any type.
    action_type: Option<ActionType>,
    mode: FreezeMode,
    until: Timestamp,
    reason: String,
    created_at: Timestamp,
    created_by: String,
    /// Null where it was not ended.
    ended_at: Option<Timestamp>,
    ended_by: Option<String>,
    /// It was neither ended nor over.
    in_force: bool,
}

impl From<FreezeRecord> for FreezeView {
    fn from(freeze: FreezeRecord) -> Self {
        Self {
            freeze_id: freeze.freeze_id,
            agent_id: freeze.agent_id,
            action_type: freeze.action_type,
            mode: freeze.mode,
            until: Timestamp(freeze.until),
            reason: freeze.reason,
            created_at: Timestamp(freeze.created_at),
            created_by: freeze.created_by,
            ended_at: freeze.ended_at.map(Timestamp),
            ended_by: freeze.ended_by,
            in_force: freeze.is_in_force,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FreezeQuery {
    /// `in_force` (default), `ended` or `all`.
    status: Option<String>,
    /// From the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct FreezeCursor(Timestamp, FreezeId);

impl Cursor for FreezeCursor {}

/// See freezes
///
/// The newest first. One that has ended is kept: a stop revokes what was approved before its end.
#[utoipa::path(
    get, path = "/v1/admin/freezes", tag = "admin", security(("admin" = [])), params(FreezeQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<FreezeView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Admin(scope): Admin,
    State(state): State<AppState>,
    Query(query): Query<FreezeQuery>,
) -> Result<Json<Page<FreezeView>>> {
    let mut faults = Faults::default();
    let is_in_force = match query.status.as_deref() {
        None | Some("in_force") => Some(true),
        Some("ended") => Some(false),
        Some("all") => None,
        Some(_) => {
            faults.add("/status", "must be in_force, ended or all");
            None
        }
    };
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.cursor.as_deref().map(FreezeCursor::decode).transpose()?;
    let after = after.map(|FreezeCursor(Timestamp(at), freeze_id)| (at, freeze_id));
    let filter = FreezeFilter { freeze_id: None, is_in_force, after, limit: limit + 1 };
    let found = state.store.freezes(&scope, &filter).await?;
    let position = |last: &FreezeRecord| FreezeCursor(Timestamp(last.created_at), last.freeze_id.clone());
    Ok(Json(Page::of(found, limit, position)))
}

/// See a freeze
#[utoipa::path(
    get, path = "/v1/admin/freezes/{freeze_id}", tag = "admin", security(("admin" = [])),
    params(("freeze_id" = String, Path)),
    responses(
        (status = 200, description = "As it stands", body = FreezeView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    Admin(scope): Admin,
    Path(freeze_id): Path<FreezeId>,
    State(state): State<AppState>,
) -> Result<Json<FreezeView>> {
    Ok(Json(state.store.freeze(&scope, &freeze_id).await?.into()))
}

/// Freeze
///
/// `hold`: until it ends nothing that it covers is used, and nothing approved but by a person. `stop`: nothing that it covers
/// is approved or used from now on, what was approved before is revoked for ever, and what is pending is rejected by the
/// sweep. Answers when every statement has ended that began before it; 503 where one has not within 3 s: the freeze stands,
/// and the same call again waits again.
#[utoipa::path(
    put, path = "/v1/admin/freezes/{freeze_id}", tag = "admin", security(("admin" = [])),
    params(("freeze_id" = String, Path)), request_body = NewFreeze,
    responses(
        (status = 200, description = "In force from now on, in place of another of its name; or the same stands", body = FreezeView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn set(
    Admin(scope): Admin,
    Path(freeze_id): Path<FreezeId>,
    State(state): State<AppState>,
    JsonBody(new): JsonBody<NewFreeze>,
) -> Result<Json<FreezeView>> {
    let NewFreeze { agent_id, action_type, mode, until: Timestamp(until), reason } = new;
    let rule = FreezeRule { agent_id, action_type, mode, until, reason };
    Ok(Json(state.store.set_freeze(&scope, &freeze_id, &rule).await?.into()))
}

/// End a freeze
///
/// What a stop has revoked stays revoked.
#[utoipa::path(
    delete, path = "/v1/admin/freezes/{freeze_id}", tag = "admin", security(("admin" = [])),
    params(("freeze_id" = String, Path)),
    responses(
        (status = 204, description = "Ended, now or before"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn end(
    Admin(scope): Admin,
    Path(freeze_id): Path<FreezeId>,
    State(state): State<AppState>,
) -> Result<StatusCode> {
    state.store.end_freeze(&scope, &freeze_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
