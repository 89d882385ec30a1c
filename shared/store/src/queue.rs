//! What operators see: the queue and one request in full.

use chrono::{DateTime, Utc};

use super::Store;
use super::chain::digest;
use super::decisions::FoundDecision;
use super::pool::run;
use relaytrace_domain::Result;
use relaytrace_domain::{
    ActorKind, AgentId, Cause, ClientRequestKey, Decision, DeliveryState, Digest, Outcome, Priority, RequestId, Status,
};

/// Of each status and priority asked for, so many requests are looked through for an agent or a text, from where the
/// page starts. No index finds a part of a text; one that did would cost every submission.
const LOOKED_THROUGH: i64 = 20_000;

/// One line of the queue.
#[derive(Clone, Debug)]
pub struct QueueItem {
    /// The request.
    pub request_id: RequestId,
    /// Who asks.
    pub agent_id: AgentId,
    /// One line.
    pub title: String,
    /// How urgent.
    pub priority: Priority,
    /// Pending or decided.
    pub status: Status,
    /// Type of the action.
    pub action_type: String,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// Until when an answer counts.
    pub respond_by: DateTime<Utc>,
    /// When it was escalated.
    pub escalated_at: Option<DateTime<Utc>>,
    /// What was decided.
    pub outcome: Option<Outcome>,
    /// Why.
    pub cause: Option<Cause>,
}

/// Position in the queue: the last item seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePosition {
    /// Its priority.
    pub priority: Priority,
    /// Its deadline.
    pub respond_by: DateTime<Utc>,
    /// Itself.
    pub request_id: RequestId,
}

/// What of the queue is asked for.
#[derive(Clone, Debug)]
pub struct QueueFilter<'a> {
    /// Pending, decided or both.
    pub statuses: &'a [Status],
    /// Any of these priorities.
    pub priorities: &'a [Priority],
    /// Of this agent only.
    pub agent_id: Option<&'a AgentId>,
    /// Text in the title, the action's type, the agent's key, or the request's id.
    pub text: Option<&'a str>,
    /// What comes after it.
    pub after: Option<QueuePosition>,
    /// At most so many.
    pub limit: i64,
}

/// How much is pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of P1, P2 and P3.
    pub pending: [i64; 3],
}

/// One page of the queue, in its order: priority, then deadline.
#[derive(Clone, Debug)]
pub struct QueuePage {
    /// The items.
    pub items: Vec<QueueItem>,
    /// More follow after the last of them.
    pub has_more: bool,
    /// What is pending, whatever the filter.
    pub counts: Counts,
}

/// Where a decision is on its way, as an operator sees it.
#[derive(Clone, Copy, Debug)]
pub struct DeliverySeen {
    /// Its state.
    pub state: DeliveryState,
    /// How often it was handed out.
    pub attempt: i32,
    /// End of the latest lease.
    pub lease_expires_at: Option<DateTime<Utc>>,
}

/// One request as an operator sees it.
#[derive(Clone, Debug)]
pub struct Detail {
    /// Its line in the queue.
    pub item: QueueItem,
    /// The agent's own key.
    pub client_request_key: ClientRequestKey,
    /// Of the action shown.
    pub action_digest: Digest,
    /// The envelope's exact bytes.
    pub envelope: Vec<u8>,
    /// Its decision.
    pub decision: Option<Decision>,
    /// Its delivery.
    pub delivery: Option<DeliverySeen>,
    /// When its agent last polled, to about 5 seconds.
    pub agent_last_polled_at: Option<DateTime<Utc>>,
    /// Bytes and hash of every chain entry, oldest first.
    pub chain: Vec<(Vec<u8>, Digest)>,
}

impl Store {
    /// A page of the queue with the counts of what is pending.
    pub async fn queue(&self, filter: &QueueFilter<'_>) -> Result<QueuePage> {
        let statuses = filter.statuses;
        let priorities: Vec<i16> = filter.priorities.iter().map(|priority| *priority as i16).collect();
        let pattern = filter.text.map(|text| {
            let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("%{escaped}%")
        });
        let rows = run!(self, connection => // One bounded index scan for each status and priority asked for, each starting where the page starts.
sqlx::query!(
                    r#"/* relaytrace: queue */
                    WITH page AS (
                        SELECT r.*, d.outcome, d.cause
                        FROM UNNEST($1::text[]) AS s (status)
                        CROSS JOIN UNNEST($2::smallint[]) AS p (priority)
                        CROSS JOIN LATERAL (
                            SELECT * FROM (
                                SELECT r.request_id, r.agent_id, r.title, r.priority, r.status, r.action_type,
                                    r.created_at, r.respond_by, r.escalated_at, r.client_request_key
                                FROM hitl_requests r
                                WHERE r.status = s.status AND r.priority = p.priority
                                    AND (r.respond_by, r.request_id) > (
                                        CASE WHEN p.priority = $3::smallint THEN $4::timestamptz ELSE '-infinity' END,
                                        CASE WHEN p.priority = $3 THEN $5::uuid
                                            ELSE '00000000-0000-0000-0000-000000000000' END
                                    )
                                ORDER BY r.respond_by, r.request_id
                                -- What filters leave is looked for so far and no further, however much is stored.
                                LIMIT CASE WHEN $6::text IS NULL AND $7::text IS NULL THEN $8::bigint ELSE $9::bigint END
                            ) r
                            WHERE ($6 IS NULL OR r.agent_id = $6)
                                AND ($7 IS NULL OR r.title ILIKE $7 OR r.action_type ILIKE $7
                                    OR r.client_request_key ILIKE $7 OR r.request_id::text ILIKE $7)
                            ORDER BY r.respond_by, r.request_id LIMIT $8
                        ) r
                        LEFT JOIN hitl_decisions d ON d.request_id = r.request_id
                        WHERE $3 IS NULL OR p.priority >= $3
                        ORDER BY r.priority, r.respond_by, r.request_id LIMIT $8
                    ), counts AS (
                        SELECT count(*) FILTER (WHERE priority = 1) AS p1, count(*) FILTER (WHERE priority = 2) AS p2,
                            count(*) FILTER (WHERE priority = 3) AS p3
                        FROM hitl_requests WHERE status = 'pending'
                    )
                    SELECT c.p1 AS "p1!", c.p2 AS "p2!", c.p3 AS "p3!",
                        q.request_id AS "request_id?: RequestId", q.agent_id AS "agent_id?: AgentId", q.title AS "title?",
                        q.priority AS "priority?: Priority", q.status AS "status?: Status", q.action_type AS "action_type?",
                        q.created_at AS "created_at?", q.respond_by AS "respond_by?", q.escalated_at,
                        q.outcome AS "outcome?: Outcome", q.cause AS "cause?: Cause"
                    FROM counts c LEFT JOIN page q ON true
                    ORDER BY q.priority, q.respond_by, q.request_id"#,
                    statuses as &[Status],
                    &priorities,
                    filter.after.map(|after| after.priority as i16),
                    filter.after.map(|after| after.respond_by),
                    filter.after.map(|after| after.request_id.0),
                    filter.agent_id.map(AgentId::as_str),
                    pattern,
                    filter.limit + 1,
                    LOOKED_THROUGH,
                )
                .fetch_all(connection))?;
        let counts = rows.first().map_or_else(Counts::default, |row| Counts { pending: [row.p1, row.p2, row.p3] });
        let mut items: Vec<QueueItem> = rows
            .into_iter()
            .filter_map(|row| {
                Some(QueueItem {
                    request_id: row.request_id?,
                    agent_id: row.agent_id?,
                    title: row.title?,
                    priority: row.priority?,
                    status: row.status?,
                    action_type: row.action_type?,
                    created_at: row.created_at?,
                    respond_by: row.respond_by?,
                    escalated_at: row.escalated_at,
                    outcome: row.outcome,
                    cause: row.cause,
                })
            })
            .collect();
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        Ok(QueuePage { items, has_more, counts })
    }

    /// One request in full.
    pub async fn detail(&self, request_id: RequestId) -> Result<Option<Detail>> {
        let row = run!(self, connection => sqlx::query!(
                    r#"/* relaytrace: detail */
                    SELECT r.agent_id AS "agent_id: AgentId", r.title, r.priority AS "priority: Priority",
                        r.status AS "status: Status", r.action_type, r.created_at, r.respond_by, r.escalated_at,
                        r.client_request_key AS "client_request_key: ClientRequestKey", r.action_digest, e.envelope,
                        d.outcome AS "outcome?: Outcome", d.cause AS "cause?: Cause",
                        d.decided_by_kind AS "decided_by_kind?: ActorKind", d.decided_by_id AS "decided_by_id?",
                        d.decided_by_name, d.reason, d.decided_at AS "decided_at?",
                        v.state AS "delivery_state?: DeliveryState", v.attempt AS "attempt?", v.lease_expires_at AS "lease_expires_at?",
                        p.last_polled_at AS "last_polled_at?", c.entries AS "entries!", c.hashes AS "hashes!"
                    FROM hitl_requests r
                    JOIN request_envelopes e USING (request_id)
                    LEFT JOIN hitl_decisions d USING (request_id)
                    LEFT JOIN deliveries v USING (request_id)
                    LEFT JOIN agent_polls p ON p.agent_id = r.agent_id
                    CROSS JOIN LATERAL (
                        SELECT array_agg(c.entry ORDER BY c.seq) AS entries, array_agg(c.hash ORDER BY c.seq) AS hashes
                        FROM approval_chain c WHERE c.request_id = r.request_id
                    ) c
                    WHERE r.request_id = $1"#,
                    request_id.0,
                )
                .fetch_optional(connection))?;
        let Some(row) = row else { return Ok(None) };
        let action_digest = digest(row.action_digest)?;
        let found = FoundDecision {
            outcome: row.outcome,
            cause: row.cause,
            kind: row.decided_by_kind,
            id: row.decided_by_id,
            name: row.decided_by_name,
            at: row.decided_at,
            reason: row.reason,
        };
        let decision = found.of(request_id, action_digest);
        let hashes = row.hashes.into_iter().map(digest).collect::<Result<Vec<_>>>()?;
        Ok(Some(Detail {
            item: QueueItem {
                request_id,
                agent_id: row.agent_id,
                title: row.title,
                priority: row.priority,
                status: row.status,
                action_type: row.action_type,
                created_at: row.created_at,
                respond_by: row.respond_by,
                escalated_at: row.escalated_at,
                outcome: row.outcome,
                cause: row.cause,
            },
            client_request_key: row.client_request_key,
            action_digest,
            envelope: row.envelope,
            decision,
            delivery: row.delivery_state.zip(row.attempt).map(|(state, attempt)| DeliverySeen {
                state,
                attempt,
                lease_expires_at: row.lease_expires_at,
            }),
            agent_last_polled_at: row.last_polled_at,
            chain: row.entries.into_iter().zip(hashes).collect(),
        }))
    }
}
