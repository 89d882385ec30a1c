//! Escalation of pending requests after the policy's share of their time.

use crate::OutboxEvent;
use crate::database::Database;
use relaytrace_domain::Result;
use relaytrace_domain::{AgentId, RequestId};

impl Database {
    /// Escalates up to `limit` pending requests whose time for it has come, or only `only` of them. Safe when
    /// overlapping.
    pub async fn escalate_due(&self, limit: i64, only: Option<RequestId>) -> Result<Vec<OutboxEvent>> {
        self.all(|| {
            sqlx::query_file_as!(
                OutboxEvent,
                "sql/escalate_due.sql",
                self.clock().for_database(),
                limit,
                only.map(|id| id.0),
            )
        })
        .await
    }
}
