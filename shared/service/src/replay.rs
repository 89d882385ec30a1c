//! Continuing replays: after the order, and by each sweep until they are finished.

use uuid::Uuid;

use crate::state::AppState;
use relaytrace_domain::ReplayState;
use relaytrace_domain::{Error, Result};

/// Requests that one batch looks at.
const BATCH: i64 = 500;

/// Does one batch of a replay and publishes its events. Whether there is more to do now: not while the stream does not
/// take the events, which wait in the outbox. A failure of ours is noted:
/// it is tried again later, and given up in the end.
pub async fn advance(state: &AppState, replay_id: Uuid) -> Result<bool> {
    let batch = match state.store.advance_replay(replay_id, BATCH).await {
        Err(error @ Error::Internal(_)) => {
            state.store.note_replay_failure(replay_id, &error).await?;
            return Err(error);
        }
        batch => batch?,
    };
    let Some(batch) = batch else { return Ok(false) };
    let mut has_more = batch.state == ReplayState::Running;
    if !batch.events.is_empty() {
        has_more &= state.events.publish(&state.store, batch.events).await?.unreached.is_empty();
    }
    Ok(has_more)
}
