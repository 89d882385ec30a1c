//! Items of a sweep that fail: tried again later, then set aside, so that they hold up nothing behind them.

use super::Store;
use super::pool::run;
use relaytrace_domain::Failure;
use relaytrace_domain::{Error, Result};
use relaytrace_domain::{RequestId, SweepPart};

impl Store {
    /// Up to `limit` requests that a part of the sweep may have to do with now. What has failed waits its time.
    pub async fn due_for(&self, part: SweepPart, limit: i64) -> Result<Vec<RequestId>> {
        run!(self, connection => sqlx::query_scalar!(
                r#"/* relaytrace: due_for */
                SELECT due.request_id AS "request_id!: RequestId"
                FROM (
                    SELECT r.request_id FROM hitl_requests r
                    WHERE $2 IN ('raise', 'expire') AND r.status = 'pending'
                        AND r.respond_by <= COALESCE($1::timestamptz, now())
                    UNION ALL
                    SELECT r.request_id FROM hitl_requests r
                    WHERE $2 = 'escalate' AND r.status = 'pending' AND r.escalated_at IS NULL
                        AND r.escalate_at IS NOT NULL AND r.escalate_at <= COALESCE($1::timestamptz, now())
                    UNION ALL
                    SELECT d.request_id FROM deliveries d
                    WHERE $2 = 'dead_letter' AND d.state IN ('ready', 'leased') AND d.attempt >= 0
                        AND d.expires_at <= COALESCE($1::timestamptz, now())
                ) due
                WHERE NOT EXISTS (
                    SELECT FROM sweep_failures f WHERE f.part = $2 AND f.request_id = due.request_id
                        AND f.retry_at > COALESCE($1::timestamptz, now())
                )
                LIMIT $3"#,
                self.clock().for_database(),
                part as SweepPart,
                limit,
            )
            .fetch_all(connection))
    }

    /// Notes that an item failed. It is left out for some time, longer each time; at the last failure it
    /// becomes a dead letter and is left out until an administrator has it tried again. Says whether it did.
    pub async fn note_sweep_failure(&self, part: SweepPart, request_id: RequestId, error: &Error) -> Result<bool> {
        let (code, message) = described(error);
        run!(self, connection => sqlx::query_scalar!(
                r#"/* relaytrace: note_sweep_failure */
                WITH timed AS (
                    SELECT COALESCE($1::timestamptz, now()) AS now
                ), forgotten AS (
                    -- What has long since been done in a batch.
                    DELETE FROM sweep_failures f USING timed t
                    WHERE f.last_at < t.now - interval '1 day' AND f.retry_at < t.now
                        AND (f.part, f.request_id) <> ($2, $3)
                ), failed AS (
                    INSERT INTO sweep_failures AS f (
                        part, request_id, attempts, error_code, error_message, first_at, last_at, retry_at
                    )
                    SELECT $2, $3, 1, $4, $5, t.now, t.now, t.now + make_interval(secs => $7::double precision) FROM timed t
                    ON CONFLICT ON CONSTRAINT sweep_failures_pkey DO UPDATE
                    SET attempts = f.attempts + 1, error_code = excluded.error_code,
                        error_message = excluded.error_message, last_at = excluded.last_at,
                        retry_at = CASE WHEN f.attempts + 1 >= $6::integer THEN 'infinity'
                            ELSE excluded.last_at + (f.attempts + 1) * make_interval(secs => $7) END
                    -- Another sweep that met it at the same time has counted it.
                    WHERE f.retry_at <= excluded.last_at
                    RETURNING f.*
                ), set_aside AS (
                    INSERT INTO dead_letters (dead_letter_id, kind, request_id, agent_id, cause, attempts, error_code,
                        error_message, first_at, last_at, sweep_part)
                    SELECT gen_random_uuid(), 'sweep', f.request_id, r.agent_id, 'sweep_failed', f.attempts,
                        f.error_code, f.error_message, f.first_at, f.last_at, f.part
                    FROM failed f LEFT JOIN hitl_requests r USING (request_id)
                    WHERE f.retry_at = 'infinity'
                    RETURNING request_id
                )
                SELECT EXISTS (SELECT FROM set_aside) AS "set_aside!""#,
                self.clock().for_database(),
                part as SweepPart,
                request_id.0,
                code,
                message,
                Failure::SweepItem.tries().cast_signed(),
                Failure::SweepItem.pause().as_secs_f64(),
            )
            .fetch_one(connection))
    }
}

/// What an administrator is told of an error: the SQLSTATE and the constraint, not the driver's text.
pub(super) fn described(error: &Error) -> (Option<String>, String) {
    let source = if let Error::Internal(source) = error { source.downcast_ref::<sqlx::Error>() } else { None };
    let Some(database) = source.and_then(sqlx::Error::as_database_error) else { return (None, error.to_string()) };
    let message = match database.constraint() {
        Some(constraint) => format!("the constraint {constraint} does not hold"),
        None => error.to_string(),
    };
    (database.code().map(std::borrow::Cow::into_owned), message)
}
