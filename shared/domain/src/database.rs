//! The database's errors as failures.

use crate::Error;

/// Lost connections, exhausted pools, a server that starts or stops: unavailable. The rest is our fault.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(database) = &error
            && database.code().is_some_and(|code| code == OVER_CAP)
        {
            return Self::RateLimited { cap: database.constraint().unwrap_or("cap").to_owned() };
        }
        let unavailable = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            // Class 08 connection exceptions, 53 insufficient resources, 57 operator intervention, 58 a disk that
            // fails, and what is still in conflict after its retries (PostgreSQL, appendix A).
            sqlx::Error::Database(database) => database.code().is_some_and(|code| {
                ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || is_conflict(&code)
            }),
            _ => false,
        };
        if unavailable { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

/// The SQLSTATE with which `within_cap` (`migrations/0004_agent_caps.sql`) refuses a statement.
const OVER_CAP: &str = "RT429";

/// Serialization failure or deadlock: the same statement may be sent again at once.
#[must_use]
pub fn is_conflict(sqlstate: &str) -> bool {
    matches!(sqlstate, "40001" | "40P01")
}
