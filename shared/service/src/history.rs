//! Detection of undeclared restores to an older point: the stream was told of entries that the database then lacks
//! (contract, "Restores").

use std::time::Duration;

use crate::state::AppState;
use crate::vitals::History;

/// Messages of the stream that are looked at.
const NEWEST: u64 = 16;
/// From one look to the next, until the database has what the stream tells.
const AGAIN: Duration = Duration::from_secs(5);

/// Looks, unless a look before has found everything there. Whether there is no need to look again.
///
/// A process looks when it starts: what was lost is later than everything in the database only until it writes itself.
pub async fn look(state: &AppState) -> bool {
    if state.vitals.history() == History::Whole {
        return true;
    }
    let Ok(told) = state.events.newest(NEWEST).await else { return false };
    match state.store.unknown_entries(&told).await {
        Ok(unknown) if unknown.is_empty() => {
            if state.vitals.has_history(History::Whole) {
                tracing::debug!("the database has what the stream tells");
            }
            true
        }
        Ok(unknown) => {
            if state.vitals.has_history(History::Behind) {
                let events: Vec<_> = unknown.iter().map(|(request_id, seq)| format!("{request_id}/{seq}")).collect();
                tracing::error!(
                    events = events.join(" "),
                    "the stream has events that this database has not: it is an older copy. Run relaytrace declare-restore"
                );
            }
            false
        }
        Err(error) => {
            tracing::warn!(error = %error, "the database cannot be compared with the stream");
            false
        }
    }
}

/// Looks until the database has what the stream tells, or this process stops.
pub(crate) async fn watch(state: AppState) {
    while !look(&state).await && !state.events.is_stopping() {
        tokio::time::sleep(AGAIN).await;
    }
}
