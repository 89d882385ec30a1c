//! What stands in the tables, for those who watch the deployment: of all tenants together, and bounded.

use chrono::{DateTime, Utc};
use relaytrace_domain::{RequestId, Result};

use crate::database::Database;

/// Each number is counted up to here: from here on it is a lower bound.
const COUNT_TO: i64 = 10_000;

/// What stands in the tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Pending requests by priority, and since when the oldest of those counted is pending.
    pub pending: Vec<(String, i64, Option<DateTime<Utc>>)>,
    /// Events that are not known to be on the stream.
    pub outbox: i64,
    /// Open dead letters by kind.
    pub dead_letters: Vec<(String, i64)>,
}

impl Database {
    /// What stands in the tables.
    ///
    /// # Errors
    /// [`Error::Unavailable`](relaytrace_domain::Error::Unavailable).
    pub async fn gauges(&self) -> Result<Gauges> {
        let rows = self.all(|| sqlx::query_file!("sql/gauges.sql", COUNT_TO)).await?;
        let mut gauges = Gauges::default();
        for row in rows {
            match row.what.as_str() {
                "pending" => {
                    let since = row.oldest.as_ref().map(RequestId::minted_at);
                    gauges.pending.push((row.name, row.count, since));
                }
                "outbox" => gauges.outbox = row.count,
                _ => gauges.dead_letters.push((row.name, row.count)),
            }
        }
        Ok(gauges)
    }
}
