//! `timeout-sweep`: what has to happen because time has passed.
//!
//! Bounded batches, safe when overlapping: rows that another sweep holds are skipped. Invoked at least once by a
//! schedule; any number of overlapping sweeps have the effect of one.

use axum::Json;
use axum::extract::State;
use relaytrace::auth::Admin;
use relaytrace::http::Problem;
use relaytrace::{AppState, Result};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Rows of one batch.
const BATCH: i64 = 200;
/// Unfinished replays that one round continues.
const REPLAYS: i64 = 10;
/// Rounds of one sweep at the most; what is left is the next sweep's.
const ROUNDS: usize = 50;

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SweepReport {
    /// Requests whose time was over and that were rejected.
    pub expired: u64,
    /// Requests that were escalated at half of their time.
    pub escalated: u64,
    /// Deliveries out of attempts or too old that were dead-lettered.
    pub dead_lettered: u64,
    /// Events left over in the outbox that the stream now has.
    pub relayed: u64,
    /// Dedupe rows dropped after their 7 days.
    pub dedupe_dropped: u64,
    /// Unfinished replays that came a batch further, and are not finished by it.
    pub replays_advanced: u64,
}

/// The routes of this function.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(sweep))
}

/// Run one sweep
#[utoipa::path(
    post, path = "/internal/timeout-sweep", tag = "timeout-sweep", security(("admin" = [])),
    responses(
        (status = 200, description = "What it did", body = SweepReport),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn sweep(_: Admin, State(state): State<AppState>) -> Result<Json<SweepReport>> {
    run_once(state).await.map(Json)
}

impl SweepReport {
    fn add(&mut self, round: Self) {
        self.expired += round.expired;
        self.escalated += round.escalated;
        self.dead_lettered += round.dead_lettered;
        self.relayed += round.relayed;
        self.dedupe_dropped += round.dedupe_dropped;
        self.replays_advanced += round.replays_advanced;
    }
}

/// One sweep: rounds of one batch of each kind until a round finds nothing. Logs only if something happened.
///
/// # Errors
/// The first that kept a part of it from being done; what was done before stays done.
pub async fn run_once(state: AppState) -> Result<SweepReport> {
    let mut report = SweepReport::default();
    for _ in 0..ROUNDS {
        let round = one_round(&state).await?;
        if round == SweepReport::default() {
            break;
        }
        report.add(round);
    }
    if report != SweepReport::default() {
        tracing::info!(?report, "swept");
    }
    Ok(report)
}

async fn one_round(state: &AppState) -> Result<SweepReport> {
    let (store, delivery) = (&state.store, &state.delivery);
    let mut round = SweepReport::default();

    let mut events = store.expire_due(BATCH, delivery.max_age_seconds).await?;
    round.expired = events.len() as u64;
    let escalated = store.escalate_due(BATCH).await?;
    round.escalated = escalated.len() as u64;
    let dead_lettered = store.dead_letter_exhausted(BATCH, delivery.max_attempts).await?;
    round.dead_lettered = dead_lettered.len() as u64;

    events.extend(escalated);
    events.extend(dead_lettered);
    if !events.is_empty() {
        state.events.publish(store, events).await?;
    }
    round.relayed = relay(state).await?;
    round.dedupe_dropped = store.drop_expired_dedupe(BATCH).await?;
    round.replays_advanced = continue_replays(state).await?;
    Ok(round)
}

/// Brings every unfinished replay a batch further. One that cannot be does not hold up the others.
async fn continue_replays(state: &AppState) -> Result<u64> {
    let mut advanced = 0;
    for replay_id in state.store.running_replays(REPLAYS).await? {
        match relaytrace::replay::advance(state, replay_id).await {
            Ok(has_more) => advanced += u64::from(has_more),
            Err(error) => tracing::warn!(replay.id = %replay_id, error = %error, "a replay waits for the next sweep"),
        }
    }
    Ok(advanced)
}

/// Publishes a batch of what others have left in the outbox.
async fn relay(state: &AppState) -> Result<u64> {
    if !state.events.is_connected().await {
        return Ok(0);
    }
    let left_over = state.store.claim_events(BATCH).await?;
    if left_over.is_empty() {
        return Ok(0);
    }
    let claimed: Vec<_> = left_over.iter().map(|event| (event.request_id, event.seq)).collect();
    let published = state.events.publish(&state.store, left_over).await?;
    if published < claimed.len() as u64 {
        state.store.release_events(&claimed).await?;
    }
    Ok(published)
}
