//! The outbox: events that are not known to be on the stream.

use uuid::Uuid;

use crate::database::Database;
use relaytrace_domain::Result;
use relaytrace_domain::{AgentId, Priority, RequestId};

/// Events that tell of a delivery that is due.
pub const FOR_POLLS: [&str; 2] = ["decided", "replayed"];

/// One row of the outbox: an event that is committed and not known to be on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The request it is about.
    pub request_id: RequestId,
    /// Its chain entry.
    pub seq: i32,
    /// `requested`, `decided` and so on.
    pub kind: String,
    /// The agent of the request.
    pub agent_id: AgentId,
    /// CloudEvents 1.0 structured JSON, the exact bytes.
    pub payload: Vec<u8>,
    /// W3C trace context of the call that caused it.
    pub traceparent: Option<String>,
}

impl OutboxEvent {
    /// The event's id and its `Nats-Msg-Id`, as its bytes say it: only the statement knows the epoch.
    #[must_use]
    pub fn id(&self) -> String {
        const BEFORE: &[u8] = br#"{"specversion":"1.0","id":""#;
        let told = self.payload.strip_prefix(BEFORE).and_then(|rest| rest.split(|byte| *byte == b'"').next());
        let told = told.and_then(|id| std::str::from_utf8(id).ok());
        told.map_or_else(|| format!("{}/{}", self.request_id, self.seq), str::to_owned)
    }

    /// The priority of its request, as its bytes say it: no statement has to give it beside them.
    pub(crate) fn priority(&self) -> Option<Priority> {
        const BEFORE: &[u8] = br#","priority":"P"#;
        let at = memchr::memmem::find(&self.payload, BEFORE)? + BEFORE.len();
        match self.payload.get(at)? {
            b'1' => Some(Priority::P1),
            b'2' => Some(Priority::P2),
            b'3' => Some(Priority::P3),
            _ => None,
        }
    }

    /// Whether a delivery is due since then.
    #[must_use]
    pub fn is_for_polls(&self) -> bool {
        FOR_POLLS.contains(&self.kind.as_str())
    }
}

impl Database {
    /// Deletes events that the stream has acknowledged, and queues them for those who listen.
    pub async fn forget_events(&self, published: &[(RequestId, i32)]) -> Result<()> {
        let (ids, sequence): (Vec<Uuid>, Vec<i32>) = published.iter().map(|(id, seq)| (id.0, *seq)).unzip();
        self.execute(|| sqlx::query_file!("sql/forget_events.sql", &ids, &sequence, self.clock().for_database()))
            .await?;
        Ok(())
    }

    /// Claims, for 30 seconds, up to `limit` events that their writer has not published in time.
    pub async fn claim_events(&self, limit: i64) -> Result<Vec<OutboxEvent>> {
        let scan = self.left_over.begin(&(), self.clock().now(), self.connections.unseen_ends());
        let rows = self
            .all(|| sqlx::query_file!("sql/claim_events.sql", self.clock().for_database(), limit, scan.from))
            .await?;
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

    /// Queues up to `limit` events of the outbox for those who listen, each once, although the stream has not got them: how
    /// many there were.
    pub async fn tell_left_over(&self, limit: i64) -> Result<u64> {
        let told = self.one(|| sqlx::query_file!("sql/tell_left_over.sql", limit, self.clock().for_database())).await?;
        Ok(told.count.cast_unsigned())
    }

    /// Gives claimed events back at once: they could not be published.
    pub async fn release_events(&self, unpublished: &[(RequestId, i32)]) -> Result<()> {
        let (ids, sequence): (Vec<Uuid>, Vec<i32>) = unpublished.iter().map(|(id, seq)| (id.0, *seq)).unzip();
        self.execute(|| sqlx::query_file!("sql/release_events.sql", &ids, &sequence, self.clock().for_database(),))
            .await?;
        Ok(())
    }
}
