//! The stale view: work that is stuck or near its deadline, for administrators.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::Scope;
use crate::database::Database;
use relaytrace_domain::Result;
use relaytrace_domain::{AgentId, RequestId, StaleReason};

/// One stale thing.
#[derive(Clone, Debug)]
pub struct StaleItem {
    /// Why it is stale.
    pub why: StaleReason,
    /// The start of the stale state.
    pub since: DateTime<Utc>,
    /// Names it among those of the same reason and time.
    pub key: String,
    /// Its agent.
    pub agent_id: Option<AgentId>,
    /// The request.
    pub request_id: Option<RequestId>,
    /// Its deadline, while it is pending.
    pub respond_by: Option<DateTime<Utc>>,
    /// The latest delivery.
    pub delivery_id: Option<Uuid>,
    /// The dead letter.
    pub dead_letter_id: Option<Uuid>,
}

/// Thresholds and position of a page of the stale view.
#[derive(Clone, Debug)]
pub struct StaleFilter {
    /// A pending request is, after this share of its time.
    pub pending_percent: i32,
    /// A delivery that nobody acknowledges is, and an agent that does not poll, after so many minutes.
    pub minutes: i32,
    /// The position of the last item: the next page begins after it.
    pub after: Option<(DateTime<Utc>, StaleReason, String)>,
    /// At most so many.
    pub limit: i64,
}

impl Database {
    /// Stale work, the longest first.
    pub async fn stale(&self, scope: &Scope, filter: &StaleFilter) -> Result<Vec<StaleItem>> {
        let after = filter.after.as_ref();
        self.all(|| {
            sqlx::query_file_as!(
                StaleItem,
                "sql/stale.sql",
                self.clock().for_database(),
                filter.pending_percent,
                filter.minutes,
                after.map(|(since, _, _)| *since),
                after.map(|(_, why, _)| *why) as Option<StaleReason>,
                after.map(|(_, _, key)| key.as_str()),
                filter.limit,
                scope.tenant.as_str(),
            )
        })
        .await
    }
}
