//! Events on their way to the stream.

use uuid::Uuid;

use super::Store;
use super::pool::run;
use relaytrace_domain::Result;
use relaytrace_domain::{AgentId, RequestId};

/// Events that tell of a delivery that is due.
pub const FOR_POLLS: [&str; 2] = ["decided", "replayed"];

/// One row of the outbox: an event that is committed and not known to be on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The request it is about.
    pub request_id: RequestId,
    /// Its chain entry; `request_id/seq` is the event's id.
    pub seq: i32,
    /// `requested`, `decided` and so on.
    pub kind: String,
    /// Whose request it is.
    pub agent_id: AgentId,
    /// CloudEvents 1.0 structured JSON, the exact bytes.
    pub payload: Vec<u8>,
    /// W3C trace context of what caused it.
    pub traceparent: Option<String>,
}

impl OutboxEvent {
    /// The event's id and its `Nats-Msg-Id`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.request_id, self.seq)
    }

    /// Whether a delivery is due since then.
    #[must_use]
    pub fn is_for_polls(&self) -> bool {
        FOR_POLLS.contains(&self.kind.as_str())
    }
}

impl Store {
    /// Deletes events that the stream has acknowledged.
    pub async fn forget_events(&self, published: &[(RequestId, i32)]) -> Result<()> {
        let (ids, sequence): (Vec<Uuid>, Vec<i32>) = published.iter().map(|(id, seq)| (id.0, *seq)).unzip();
        run!(self, connection => sqlx::query!(
                r#"/* relaytrace: forget_events */
                DELETE FROM outbox o USING UNNEST($1::uuid[], $2::integer[]) AS p (request_id, seq)
                WHERE o.request_id = p.request_id AND o.seq = p.seq"#,
                &ids,
                &sequence,
            )
            .execute(connection))?;
        Ok(())
    }

    /// Claims up to `limit` events that whoever wrote them has not published in time, for the next 30 seconds.
    pub async fn claim_events(&self, limit: i64) -> Result<Vec<OutboxEvent>> {
        let scan = self.left_over.begin(&(), self.clock().now(), self.connections.unseen_ends());
        let rows = run!(self, connection => sqlx::query!(
                r#"/* relaytrace: claim_events */
                WITH left_over AS (
                    SELECT request_id, seq FROM outbox
                    WHERE claimed_until >= COALESCE($3::timestamptz, '-infinity')
                        AND claimed_until <= COALESCE($1::timestamptz, now())
                    ORDER BY claimed_until LIMIT $2
                    FOR NO KEY UPDATE SKIP LOCKED
                ), claimed AS (
                    UPDATE outbox o SET claimed_until = COALESCE($1, now()) + interval '30 seconds'
                    FROM left_over l WHERE o.request_id = l.request_id AND o.seq = l.seq
                    RETURNING o.request_id, o.seq, o.kind, o.agent_id, o.payload, o.traceparent
                )
                SELECT t.now AS "now!", (
                        -- As it was before this statement, held by another or not: see floors.rs.
                        SELECT f.claimed_until FROM outbox f
                        WHERE f.claimed_until >= COALESCE($3, '-infinity') AND f.claimed_until <= COALESCE($1, now())
                        ORDER BY f.claimed_until LIMIT 1
                    ) AS first_left_over,
                    c.request_id AS "request_id?: RequestId", c.seq AS "seq?", c.kind AS "kind?",
                    c.agent_id AS "agent_id?: AgentId", c.payload AS "payload?", c.traceparent
                FROM (SELECT COALESCE($1, now()) AS now) t LEFT JOIN claimed c ON true"#,
                self.clock().for_database(),
                limit,
                scan.from,
            )
            .fetch_all(connection));
        let rows = rows?;
        if let Some(first) = rows.first() {
            scan.record(first.now, first.first_left_over);
        }
        let event = |row| match row {
            (Some(request_id), Some(seq), Some(kind), Some(agent_id), Some(payload), traceparent) => {
                Some(OutboxEvent { request_id, seq, kind, agent_id, payload, traceparent })
            }
            _ => None,
        };
        let columns = rows.into_iter();
        let columns =
            columns.map(|row| (row.request_id, row.seq, row.kind, row.agent_id, row.payload, row.traceparent));
        Ok(columns.filter_map(event).collect())
    }

    /// Gives claimed events back at once: they could not be published.
    pub async fn release_events(&self, unpublished: &[(RequestId, i32)]) -> Result<()> {
        let (ids, sequence): (Vec<Uuid>, Vec<i32>) = unpublished.iter().map(|(id, seq)| (id.0, *seq)).unzip();
        run!(self, connection => sqlx::query!(
                "UPDATE outbox o SET claimed_until = COALESCE($3::timestamptz, now())
                FROM UNNEST($1::uuid[], $2::integer[]) AS p (request_id, seq)
                WHERE o.request_id = p.request_id AND o.seq = p.seq",
                &ids,
                &sequence,
                self.clock().for_database(),
            )
            .execute(connection))?;
        Ok(())
    }
}
