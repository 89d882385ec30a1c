//! The administrators' log: append-only, each entry written by the statement that it records.

use chrono::{DateTime, Utc};
use relaytrace_domain::{ActorKind, Result};
use serde_json::Value;
use uuid::Uuid;

use crate::Scope;
use crate::database::Database;

/// One act.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// Names it.
    pub log_id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Who: of which kind.
    pub actor_kind: ActorKind,
    /// Who: the token's `sub`.
    pub actor_id: String,
    /// Who: the name as the token gave it.
    pub actor_name: Option<String>,
    /// What, for programs: `key.revoked`.
    pub action: String,
    /// To what: an agent, a key, a policy, a request.
    pub subject: String,
    /// Its state before and after.
    pub details: Value,
}

/// Which acts.
#[derive(Clone, Debug, Default)]
pub struct LogFilter<'a> {
    /// Not before.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
    /// Only of this actor.
    pub actor: Option<&'a str>,
    /// Older than this one.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    /// At most so many.
    pub limit: i64,
}

impl Database {
    /// Acts of a tenant, the newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn admin_log(&self, scope: &Scope, filter: &LogFilter<'_>) -> Result<Vec<LogRecord>> {
        self.all(|| {
            sqlx::query_file_as!(
                LogRecord,
                "sql/admin_log.sql",
                scope.tenant.as_str(),
                filter.from,
                filter.to,
                filter.actor,
                filter.after.map(|(at, _)| at),
                filter.after.map(|(_, id)| id),
                filter.limit,
            )
        })
        .await
    }
}
