//! Work that is stuck or about to be.

use axum::Json;
use axum::extract::State;
use relaytrace_domain::Result;
use relaytrace_domain::{AgentId, Faults, RequestId, StaleReason, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Cursor, Page, Problem, Query, clamped};
use relaytrace_store::{StaleFilter, StaleItem};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StaleQuery {
    /// A pending request is stale after this share of its time, 1 to 100; default 75.
    #[param(value_type = Option<u64>)]
    pending_percent: Option<String>,
    /// A delivery that nobody acknowledges, and its agent that does not poll, are stale after so many minutes, 1 to
    /// 10,080; default 10.
    #[param(value_type = Option<u64>)]
    minutes: Option<String>,
    /// From the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

/// Something that an administrator should look at.
#[derive(Debug, Serialize, ToSchema)]
pub struct StaleView {
    why: StaleReason,
    since: Timestamp,
    agent_id: Option<AgentId>,
    request_id: Option<RequestId>,
    /// While it is pending.
    respond_by: Option<Timestamp>,
    /// The latest delivery of its decision, if a poll has had one.
    #[schema(value_type = Option<String>, format = "uuid")]
    delivery_id: Option<Uuid>,
    #[schema(value_type = Option<String>, format = "uuid")]
    dead_letter_id: Option<Uuid>,
}

impl From<StaleItem> for StaleView {
    fn from(item: StaleItem) -> Self {
        Self {
            why: item.why,
            since: Timestamp(item.since),
            agent_id: item.agent_id,
            request_id: item.request_id,
            respond_by: item.respond_by.map(Timestamp),
            delivery_id: item.delivery_id,
            dead_letter_id: item.dead_letter_id,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StaleCursor(Timestamp, StaleReason, String);

impl Cursor for StaleCursor {}

/// List stale work
///
/// The longest first.
#[utoipa::path(
    get, path = "/v1/admin/stale", tag = "admin", security(("admin" = [])), params(StaleQuery),
    responses(
        (status = 200, description = "A page of it", body = Page<StaleView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Admin(scope): Admin,
    State(state): State<AppState>,
    Query(query): Query<StaleQuery>,
) -> Result<Json<Page<StaleView>>> {
    let mut faults = Faults::default();
    let percent = clamped(&mut faults, "pending_percent", query.pending_percent.as_deref(), 75, 1, 100);
    let minutes = clamped(&mut faults, "minutes", query.minutes.as_deref(), 10, 1, 10_080);
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.cursor.as_deref().map(StaleCursor::decode).transpose()?;
    let filter = StaleFilter {
        pending_percent: i32::try_from(percent).unwrap_or(100),
        minutes: i32::try_from(minutes).unwrap_or(10_080),
        after: after.map(|StaleCursor(Timestamp(since), why, key)| (since, why, key)),
        limit: limit + 1,
    };
    let found = state.store.stale(&scope, &filter).await?;
    Ok(Json(Page::of(found, limit, |last| StaleCursor(Timestamp(last.since), last.why, last.key.clone()))))
}
