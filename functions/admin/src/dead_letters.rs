//! Dead letters: see them, try again, give up.

use axum::Json;
use axum::extract::{Extension, State};
use relaytrace_domain::Result;
use relaytrace_domain::{AgentId, ChannelId, DeadLetterKind, Faults, Reason, RequestId, Resolution, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Cursor, JsonBody, Page, Path, Problem, Query, Trace, clamped, parse_list, parse_one};
use relaytrace_store::{DeadLetterFilter, DeadLetterRecord};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeadLetterQuery {
    /// `open` (default), `resolved` or `all`.
    status: Option<String>,
    /// `delivery`, `event`, `sweep` or `notification`.
    kind: Option<String>,
    /// Of any of these agents, repeated or separated by commas.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    agent_id: Vec<String>,
    /// From the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

/// What could not be done.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterView {
    #[schema(value_type = String, format = "uuid")]
    dead_letter_id: Uuid,
    kind: DeadLetterKind,
    request_id: Option<RequestId>,
    agent_id: Option<AgentId>,
    /// Of a notification: the channel; null: the agent's push.
    channel_id: Option<ChannelId>,
    /// Of a notification: the channel's event, or `resolved`.
    notice: Option<String>,
    /// Why it was set aside: `agent_failed`, `attempts_exhausted`, `age_exceeded`, `unpublishable`, `sweep_failed`.
    cause: String,
    attempts: i32,
    /// Of the last error.
    error_code: Option<String>,
    /// Of the last error.
    error_message: Option<String>,
    /// When it was first due.
    first_at: Timestamp,
    /// When it was set aside.
    last_at: Timestamp,
    resolved_at: Option<Timestamp>,
    resolution: Option<Resolution>,
    resolved_by: Option<String>,
    resolve_reason: Option<String>,
}

impl From<DeadLetterRecord> for DeadLetterView {
    fn from(record: DeadLetterRecord) -> Self {
        Self {
            dead_letter_id: record.dead_letter_id,
            kind: record.kind,
            request_id: record.request_id,
            agent_id: record.agent_id,
            channel_id: record.channel_id,
            notice: record.notice,
            cause: record.cause,
            attempts: record.attempts,
            error_code: record.error_code,
            error_message: record.error_message,
            first_at: Timestamp(record.first_at),
            last_at: Timestamp(record.last_at),
            resolved_at: record.resolved_at.map(Timestamp),
            resolution: record.resolution,
            resolved_by: record.resolved_by,
            resolve_reason: record.resolve_reason,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct DeadLetterCursor(Timestamp, Uuid);

impl Cursor for DeadLetterCursor {}

/// See dead letters
///
/// The newest first.
#[utoipa::path(
    get, path = "/v1/admin/dead-letters", tag = "admin", security(("admin" = [])), params(DeadLetterQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<DeadLetterView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Admin(scope): Admin,
    State(state): State<AppState>,
    Query(query): Query<DeadLetterQuery>,
) -> Result<Json<Page<DeadLetterView>>> {
    let mut faults = Faults::default();
    let is_open = match query.status.as_deref() {
        None | Some("open") => Some(true),
        Some("resolved") => Some(false),
        Some("all") => None,
        Some(_) => {
            faults.add("/status", "must be open, resolved or all");
            None
        }
    };
    let kind = parse_one::<DeadLetterKind>(&mut faults, "kind", query.kind.as_deref());
    let agent_ids: Vec<AgentId> = parse_list(&mut faults, "agent_id", &query.agent_id);
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.cursor.as_deref().map(DeadLetterCursor::decode).transpose()?;
    let after = after.map(|DeadLetterCursor(Timestamp(at), id)| (at, id));
    let filter = DeadLetterFilter { is_open, kinds: kind.as_slice(), agent_ids: &agent_ids, after, limit: limit + 1 };
    let found = state.store.dead_letters(&scope, &filter).await?;
    Ok(Json(Page::of(found, limit, |last| DeadLetterCursor(Timestamp(last.last_at), last.dead_letter_id))))
}

/// Try again
///
/// A delivery and a notification are due at once; an event is published, and a sweep's item done, by the next sweep.
#[utoipa::path(
    post, path = "/v1/admin/dead-letters/{id}/retry", tag = "admin", security(("admin" = [])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "Resolved as retried, now or before", body = DeadLetterView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn retry(
    Admin(scope): Admin,
    Path(id): Path<Uuid>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
) -> Result<Json<DeadLetterView>> {
    let dead_letter = state.relay.retry_dead_letter(scope, id, trace.traceparent.clone()).await?;
    Ok(Json(dead_letter.into()))
}

/// Why a dead letter is given up.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct Discard {
    /// 1 to 2,000 characters.
    reason: Reason,
}

/// Give up
///
/// A decision stays: its agent can still read it.
#[utoipa::path(
    post, path = "/v1/admin/dead-letters/{id}/discard", tag = "admin", security(("admin" = [])),
    params(("id" = String, Path)), request_body = Discard,
    responses(
        (status = 200, description = "Resolved as discarded, now or before", body = DeadLetterView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn discard(
    Admin(scope): Admin,
    Path(id): Path<Uuid>,
    State(state): State<AppState>,
    JsonBody(discard): JsonBody<Discard>,
) -> Result<Json<DeadLetterView>> {
    Ok(Json(state.store.discard_dead_letter(&scope, id, discard.reason.as_str()).await?.into()))
}
