//! `replay`: administrators send deliveries or events out again. Internal: not on the public API.
//!
//! An order is stored first, and then done in batches: some before the answer, the rest by the sweeps. The stream drops
//! an event that it has taken within its duplicate window (10 minutes); what is older it may then hold twice, under the
//! same id, and consumers dedupe on that.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use relaytrace_domain::{Error, Result};
use relaytrace_domain::{Reason, ReplayKey, ReplayScope, ReplayState, ReplayTarget, Timestamp, mint_uuid};
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{JsonBody, Path, Problem, Routes};
use relaytrace_service::{AppState, DatabaseAuthority};
use relaytrace_store::{Replay, ReplayOrder, Scope};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

/// Batches before the answer at the most; the sweeps do the rest.
const BATCHES: usize = 10;
/// Longest time of them. What is cut off has its events in the outbox.
const BEFORE_THE_ANSWER: Duration = Duration::from_secs(1);

/// The routes of this function.
pub fn router() -> Routes {
    relaytrace_service::routes!(order, show).needing(DatabaseAuthority::Ops, |needs| needs)
}

/// The order of a replay.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(error = relaytrace_domain::Faults, deny_unknown_fields)]
struct Order {
    /// The same key is the same replay.
    replay_key: ReplayKey,
    target: ReplayTarget,
    scope: ReplayScope,
    reason: Reason,
    /// Only count.
    #[deserr(default)]
    #[schema(required = false)]
    dry_run: bool,
}

/// A replay as it stands.
#[derive(Debug, Serialize, ToSchema)]
struct ReplayView {
    #[schema(value_type = String, format = "uuid")]
    replay_id: Uuid,
    replay_key: ReplayKey,
    target: ReplayTarget,
    #[schema(value_type = ReplayScope)]
    scope: Box<RawValue>,
    reason: String,
    /// The administrator.
    requested_by: String,
    dry_run: bool,
    state: ReplayState,
    /// Deliveries or events in scope, as far as they are counted.
    matched: i64,
    /// Those of them that went out again; fewer in the end where one was acknowledged meanwhile.
    done: i64,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
    /// What went wrong with the latest batch.
    error_message: Option<String>,
}

impl TryFrom<Replay> for ReplayView {
    type Error = Error;
    fn try_from(replay: Replay) -> Result<Self> {
        Ok(Self {
            replay_id: replay.replay_id,
            replay_key: replay.replay_key,
            target: replay.target,
            scope: RawValue::from_string(replay.scope).map_err(Error::internal)?,
            reason: replay.reason,
            requested_by: replay.requested_by,
            dry_run: replay.dry_run,
            state: replay.state,
            matched: replay.matched,
            done: replay.done,
            created_at: Timestamp(replay.created_at),
            finished_at: replay.finished_at.map(Timestamp),
            error_message: replay.error_message,
        })
    }
}

/// Send deliveries or events out again
#[utoipa::path(
    post, path = "/v1/admin/replay", tag = "replay", security(("admin" = [])), request_body = Order,
    responses(
        (status = 202, description = "Ordered, now or before under this key; sweeps finish it", body = ReplayView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn order(
    Admin(scope): Admin,
    State(state): State<AppState>,
    JsonBody(order): JsonBody<Order>,
) -> Result<(StatusCode, Json<ReplayView>)> {
    let (replay, _) = state
        .store
        .order_replay(&ReplayOrder {
            replay_id: mint_uuid(state.clock.now()),
            replay_key: &order.replay_key,
            target: order.target,
            scope: &order.scope,
            reason: order.reason.as_str(),
            by: &scope,
            dry_run: order.dry_run,
        })
        .await?;
    drop(tokio::time::timeout(BEFORE_THE_ANSWER, begin(&state, replay.replay_id)).await);
    Ok((StatusCode::ACCEPTED, view(&state, &scope, replay.replay_id).await?))
}

/// The first batches of a replay.
async fn begin(state: &AppState, replay_id: Uuid) {
    for _ in 0..BATCHES {
        match relaytrace_service::replay::advance(state, replay_id).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::warn!(replay.id = %replay_id, error = ?error, "the replay waits for the next sweep");
                break;
            }
        }
    }
}

/// See how far a replay is
#[utoipa::path(
    get, path = "/v1/admin/replays/{replay_id}", tag = "replay", security(("admin" = [])),
    params(("replay_id" = String, Path)),
    responses(
        (status = 200, description = "The replay", body = ReplayView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn show(
    Admin(scope): Admin,
    Path(replay_id): Path<Uuid>,
    State(state): State<AppState>,
) -> Result<Json<ReplayView>> {
    view(&state, &scope, replay_id).await
}

async fn view(state: &AppState, scope: &Scope, replay_id: Uuid) -> Result<Json<ReplayView>> {
    state.store.replay(scope, replay_id).await?.ok_or(Error::NotFound)?.try_into().map(Json)
}
