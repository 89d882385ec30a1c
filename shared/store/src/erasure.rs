//! Retention: envelopes are erased by age. What proves a decision stays.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

/// Envelopes that one statement looks at.
const BATCH: i64 = 500;

/// Erases the envelopes of requests that were submitted and decided before this time and whose deliveries are over, as
/// the owner: no role of the functions may. Each batch is a transaction of its own and is noted in `admin_log`. Returns
/// how many there were; with `dry_run` it only counts them.
///
/// # Errors
/// What Postgres refuses. Batches before it stay erased; it is safe to repeat.
pub async fn erase(owner: &PgConnectOptions, before: DateTime<Utc>, dry_run: bool) -> sqlx::Result<i64> {
    let mut connection = PgConnection::connect_with(owner).await?;
    let (mut erased, mut after) = (0, Some(Uuid::nil()));
    while let Some(position) = after {
        let batch = sqlx::query_file!("sql/erase.sql", before, BATCH, position, dry_run);
        let batch = batch.fetch_one(&mut connection).await?;
        erased += batch.count;
        after = batch.last;
    }
    connection.close().await?;
    Ok(erased)
}
