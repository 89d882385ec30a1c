//! The database's errors as failures.

use sqlx::error::DatabaseError;

use crate::Error;

/// What an SQLSTATE says about the statement and its connection (PostgreSQL, appendix A).
///
/// Every refusal of the server that is not in here is a fault of ours and leaves the connection as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Lost against another statement: it may be sent again at once, over the same connection.
    Conflict,
    /// The connection cannot do it and another may, and nothing was done: it may be sent again over a new connection.
    Outdated,
    /// The server has no time, lock, memory or disk for it now. The connection is as good as before.
    Busy,
    /// The server is shutting down, or the connection's state is lost.
    Lost,
}

impl Refusal {
    /// The refusal that this error is; `None`: a fault of ours.
    #[must_use]
    pub fn of(error: &dyn DatabaseError) -> Option<Self> {
        let code = error.code()?;
        match &*code {
            // Serialization failure, deadlock.
            "40001" | "40P01" => Some(Self::Conflict),
            // A primary that became a standby, or was made read-only. A pooler's or failed-over server's session does not
            // know our prepared statement, or knows another of its name; a table has changed since it was planned.
            "25006" | "26000" | "42P05" => Some(Self::Outdated),
            "0A000" if error.message().contains("cached plan") => Some(Self::Outdated),
            // Ended by statement_timeout; no lock within lock_timeout.
            "57014" | "55P03" => Some(Self::Busy),
            _ => match code.get(..2)? {
                "53" => Some(Self::Busy),
                // Connection exceptions, a transaction that is not ours, credentials, no such database, operator
                // intervention, a disk that fails.
                "08" | "25" | "28" | "3D" | "57" | "58" => Some(Self::Lost),
                _ => None,
            },
        }
    }
}

/// Lost connections, exhausted pools, a server that starts, stops or has no time: unavailable. The rest is our fault.
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
            sqlx::Error::Database(database) => Refusal::of(&**database).is_some(),
            _ => false,
        };
        if unavailable { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

/// The SQLSTATE with which `within_cap` (`migrations/0004_agent_caps.sql`) refuses a statement.
const OVER_CAP: &str = "RT429";
