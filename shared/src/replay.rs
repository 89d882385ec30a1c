//! Continuing replays: after the order, and by each sweep until they are finished.

use uuid::Uuid;

use crate::domain::ReplayState;
use crate::error::Result;
use crate::state::AppState;

/// Requests that one batch looks at.
const BATCH: i64 = 500;

/// Does one batch of a replay and publishes its events. Whether there is more to do here.
pub async fn advance(state: &AppState, replay_id: Uuid) -> Result<bool> {
    let batch = state.store.advance_replay(replay_id, BATCH, state.delivery.max_age_seconds).await?;
    let Some(batch) = batch else { return Ok(false) };
    if !batch.events.is_empty() {
        state.events.publish(&state.store, batch.events).await?;
    }
    Ok(batch.state == ReplayState::Running)
}
