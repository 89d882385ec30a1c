//! How requests were answered: in time, too late, or not at all.

use chrono::{DateTime, Utc};
use relaytrace_domain::{Result, SlaBy};

use crate::Scope;
use crate::database::Database;

/// Requests that one report looks through, of those submitted in its period: what waits in every tenant, and what is decided
/// in this one. A statement's time has room for so many.
pub const SLA_REQUESTS: i64 = 200_000;

/// Lines of a report at the most.
const LINES: i64 = 1_000;

/// One line of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct SlaRecord {
    /// Whose requests; `None`: those that have no such thing.
    pub key: Option<String>,
    /// How many were submitted.
    pub asked: i64,
    /// Decided before their time was over, and not taken back.
    pub decided_in_time: i64,
    /// Nobody decided before their time was over.
    pub timed_out: i64,
    /// Taken back.
    pub cancelled: i64,
    /// Not decided yet.
    pub pending: i64,
    /// Half of those that people decided in time took at most so many seconds.
    pub p50_seconds: Option<f64>,
    /// Nine in ten of them took at most so many.
    pub p90_seconds: Option<f64>,
    /// What the whole report looked through.
    pub looked_through: i64,
}

impl Database {
    /// How the requests of a period were answered, the most asked first. `None`: there are more than [`SLA_REQUESTS`].
    ///
    /// # Errors
    /// [`Error::Unavailable`](relaytrace_domain::Error::Unavailable) also where a statement's time is not enough.
    pub async fn sla(
        &self,
        scope: &Scope,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        by: SlaBy,
    ) -> Result<Option<Vec<SlaRecord>>> {
        let mut lines = self
            .all(|| {
                sqlx::query_file_as!(
                    SlaRecord,
                    "sql/sla.sql",
                    scope.tenant.as_str(),
                    from,
                    to,
                    by.as_str(),
                    SLA_REQUESTS + 1,
                    LINES,
                )
            })
            .await?;
        let is_whole = lines.iter().all(|line| line.looked_through <= SLA_REQUESTS);
        lines.retain(|line| line.asked > 0);
        Ok(is_whole.then_some(lines))
    }
}
