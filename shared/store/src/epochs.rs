//! Epochs: a restore to an older point is detected, and later entries get names of their own.

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use relaytrace_domain::{RequestId, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

use crate::database::Database;
use crate::install;

/// What an event on the stream tells of: an entry of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldEntry {
    /// The request.
    pub request_id: RequestId,
    /// Position in its chain.
    pub seq: i32,
    /// When it was made.
    pub at: DateTime<Utc>,
}

/// What a declaration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredRestore {
    /// The epoch that counts from now on.
    pub epoch: i32,
    /// Whether this call has begun it. `false`: nothing has happened since it was declared before.
    pub is_new: bool,
    /// Approvals that were usable and are not any more.
    pub ended_permits: i64,
    /// Requests that were pending at the point that was restored; some may have been decided since.
    pub pending: i64,
}

/// Declares that this database was set back to an older point, as its owner: another epoch begins. Safe to repeat.
///
/// # Errors
/// What Postgres refuses; a database without any request, or whose clock is behind its newest entry.
pub async fn declare_restore(
    owner: &PgConnectOptions,
    epoch: Option<i32>,
    reason: &str,
) -> anyhow::Result<DeclaredRestore> {
    let mut connection = install::alone(owner).await?;
    let mut transaction = connection.begin().await?;
    let done = sqlx::query_file!("sql/declare_restore.sql", epoch, reason).fetch_one(&mut *transaction).await?;
    let newest = done.newest.context("there is no request in this database: nothing was restored")?;
    ensure!(!done.is_clock_behind, "the database's clock is behind its newest entry, of {newest}: set it right first");
    let is_new = done.begun.is_some();
    let epoch = done.begun.or(done.latest).context("no epoch was begun")?;
    // An epoch that a dump brought along has its function with it; made again, it is right in any case.
    let body: String = sqlx::query_scalar(
        "SELECT string_agg(format('WHEN at >= %L::timestamptz THEN %s', begins_at, epoch), ' ' ORDER BY begins_at DESC)
        FROM epochs",
    )
    .fetch_one(&mut *transaction)
    .await?;
    let function = format!(
        "CREATE OR REPLACE FUNCTION epoch_of(at timestamptz) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN CASE {body} ELSE 1 END"
    );
    sqlx::raw_sql(AssertSqlSafe(function)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(DeclaredRestore { epoch, is_new, ended_permits: done.ended_permits, pending: done.pending })
}

impl Database {
    /// Those of these entries that are later than everything here, and are not here, though someone was told of them: this
    /// database is an older copy. None after the restore was declared.
    pub async fn unknown_entries(&self, told: &[ToldEntry]) -> Result<Vec<(RequestId, i32)>> {
        let ids: Vec<Uuid> = told.iter().map(|entry| entry.request_id.0).collect();
        let sequence: Vec<i32> = told.iter().map(|entry| entry.seq).collect();
        let times: Vec<DateTime<Utc>> = told.iter().map(|entry| entry.at).collect();
        let unknown = self.all(|| sqlx::query_file!("sql/unknown_events.sql", &ids, &sequence, &times)).await?;
        Ok(unknown.into_iter().map(|entry| (entry.request_id, entry.seq)).collect())
    }
}
