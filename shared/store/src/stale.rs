//! What is stuck or about to be: for administrators.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Store;
use super::pool::run;
use relaytrace_domain::Result;
use relaytrace_domain::{AgentId, RequestId, StaleReason};

/// One stale thing.
#[derive(Clone, Debug)]
pub struct StaleItem {
    /// Why it is stale.
    pub why: StaleReason,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Names it among those of the same reason and time.
    pub key: String,
    /// Whose it is.
    pub agent_id: Option<AgentId>,
    /// The request.
    pub request_id: Option<RequestId>,
    /// Its deadline, while it is pending.
    pub respond_by: Option<DateTime<Utc>>,
    /// The latest delivery.
    pub delivery_id: Option<Uuid>,
    /// The dead letter.
    pub dead_letter_id: Option<Uuid>,
}

/// What counts as stale, and which page of it.
#[derive(Clone, Debug)]
pub struct StaleFilter {
    /// A pending request is, after this share of its time.
    pub pending_percent: i32,
    /// A delivery that nobody acknowledges is, and an agent that does not poll, after so many minutes.
    pub minutes: i32,
    /// What comes after it.
    pub after: Option<(DateTime<Utc>, StaleReason, String)>,
    /// At most so many.
    pub limit: i64,
}

impl Store {
    /// What is stale, the longest first.
    pub async fn stale(&self, filter: &StaleFilter) -> Result<Vec<StaleItem>> {
        let after = filter.after.as_ref();
        run!(self, connection => sqlx::query_as!(
                StaleItem,
                r#"/* relaytrace: stale */
                WITH timed AS (
                    SELECT COALESCE($1::timestamptz, now()) AS now, make_interval(mins => $3::integer) AS patience
                ), waiting AS (
                    -- The newest chain entry of an undelivered decision is what made it ready.
                    SELECT d.request_id, d.agent_id, d.delivery_id, r.changed_at AS since
                    FROM deliveries d JOIN hitl_requests r USING (request_id), timed t
                    WHERE d.state IN ('ready', 'leased') AND r.changed_at <= t.now - t.patience
                ), stale AS (
                    SELECT 'pending' AS why, r.created_at + (r.respond_by - r.created_at) * $2::integer / 100 AS since,
                        r.request_id::text AS key, r.agent_id, r.request_id, r.respond_by, NULL::uuid AS delivery_id,
                        NULL::uuid AS dead_letter_id
                    FROM hitl_requests r, timed t
                    WHERE r.status = 'pending'
                        AND r.created_at + (r.respond_by - r.created_at) * $2 / 100 <= t.now
                    UNION ALL
                    SELECT 'unacknowledged', w.since, w.request_id::text, w.agent_id, w.request_id, NULL,
                        w.delivery_id, NULL
                    FROM waiting w
                    UNION ALL
                    SELECT 'dead_lettered', x.last_at, x.dead_letter_id::text, x.agent_id, x.request_id, NULL, NULL,
                        x.dead_letter_id
                    FROM dead_letters x WHERE x.resolved_at IS NULL
                    UNION ALL
                    SELECT 'not_polling', GREATEST(p.last_polled_at, w.since), w.agent_id, w.agent_id, NULL, NULL, NULL,
                        NULL
                    FROM (SELECT agent_id, min(since) AS since FROM waiting GROUP BY agent_id) w
                    CROSS JOIN timed t
                    LEFT JOIN agent_polls p USING (agent_id)
                    WHERE p.last_polled_at IS NULL OR p.last_polled_at <= t.now - t.patience
                )
                SELECT why AS "why!: StaleReason", since AS "since!", key AS "key!", agent_id AS "agent_id: AgentId",
                    request_id AS "request_id: RequestId", respond_by, delivery_id, dead_letter_id
                FROM stale
                WHERE $4::timestamptz IS NULL OR (since, why, key) > ($4, $5::text, $6::text)
                ORDER BY since, why, key LIMIT $7"#,
                self.clock().for_database(),
                filter.pending_percent,
                filter.minutes,
                after.map(|(since, _, _)| *since),
                after.map(|(_, why, _)| *why) as Option<StaleReason>,
                after.map(|(_, _, key)| key.as_str()),
                filter.limit,
            )
            .fetch_all(connection))
    }
}
