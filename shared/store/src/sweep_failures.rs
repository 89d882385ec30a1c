//! Items of a sweep that fail: tried again later, then set aside, so that they hold up nothing behind them.

use crate::database::Database;
use relaytrace_domain::Failure;
use relaytrace_domain::{Error, Result};
use relaytrace_domain::{RequestId, SweepPart};

impl Database {
    /// Up to `limit` candidates of a part of the sweep, without those in a backoff after a failure.
    pub async fn due_for(&self, part: SweepPart, limit: i64) -> Result<Vec<RequestId>> {
        let due = self
            .all(|| sqlx::query_file!("sql/due_for.sql", self.clock().for_database(), part as SweepPart, limit))
            .await?;
        Ok(due.into_iter().map(|due| due.request_id).collect())
    }

    /// Notes that an item failed. It is left out for some time, longer each time; at the last failure it
    /// becomes a dead letter and is left out until an administrator has it tried again. Says whether it did.
    pub async fn note_sweep_failure(&self, part: SweepPart, request_id: RequestId, error: &Error) -> Result<bool> {
        let (code, message) = described(error);
        let noted = self
            .one(|| {
                sqlx::query_file!(
                    "sql/note_sweep_failure.sql",
                    self.clock().for_database(),
                    part as SweepPart,
                    request_id.0,
                    code,
                    message,
                    Failure::SweepItem.tries().cast_signed(),
                    Failure::SweepItem.pause().as_secs_f64(),
                )
            })
            .await?;
        Ok(noted.set_aside)
    }
}

/// An error as administrators see it: the SQLSTATE and the constraint, not the driver's text.
pub(super) fn described(error: &Error) -> (Option<String>, String) {
    let source = if let Error::Internal(source) = error { source.downcast_ref::<sqlx::Error>() } else { None };
    let Some(database) = source.and_then(sqlx::Error::as_database_error) else { return (None, error.to_string()) };
    let message = match database.constraint() {
        Some(constraint) => format!("the constraint {constraint} does not hold"),
        None => error.to_string(),
    };
    (database.code().map(std::borrow::Cow::into_owned), message)
}
