//! Stored requests for a draft of rules to be tried on (contract, "Trying rules").

use chrono::{DateTime, TimeDelta, Utc};
use relaytrace_domain::{AgentId, Cause, Outcome, Protocol, RequestId, Result};
use uuid::{Builder, Uuid};

use crate::Scope;
use crate::database::Database;

/// Requests of all tenants that one page looks through at most.
const LOOKED_THROUGH: i64 = 20_000;
/// Bytes of envelopes after which a page ends: some 10,000 of usual ones.
const BYTES_OF_ENVELOPES: i64 = 16 << 20;
/// An id is made before its row is, by another clock: by how much they may differ.
const APART: TimeDelta = TimeDelta::minutes(10);

/// What a stored request asked, and what became of it.
#[derive(Clone, Debug)]
pub struct StoredAsk {
    /// The request.
    pub request_id: RequestId,
    /// Who asked.
    pub agent_id: AgentId,
    /// Type of the action.
    pub action_type: String,
    /// The agent's own name of the requests that it belongs with.
    pub group: Option<String>,
    /// The person for whom it was asked, in lower case.
    pub on_behalf_of: Option<String>,
    /// Whose words the envelope is in; `None`: RelayTrace's own.
    pub protocol: Option<Protocol>,
    /// The envelope's exact bytes; `None`: erased.
    pub envelope: Option<Vec<u8>>,
    /// The `submitted` entry of a bridged request.
    pub submitted: Option<Vec<u8>>,
    /// The outcome; `None`: pending.
    pub outcome: Option<Outcome>,
    /// Why.
    pub cause: Option<Cause>,
}

/// Which stored requests.
#[derive(Clone, Copy, Debug)]
pub struct AskFilter {
    /// Submitted not before.
    pub from: DateTime<Utc>,
    /// Submitted before.
    pub to: DateTime<Utc>,
    /// The position of the page before; `None`: the newest.
    pub after: Option<RequestId>,
    /// At most so many.
    pub limit: i64,
}

/// A page of stored requests, the newest first.
#[derive(Clone, Debug)]
pub struct AskPage {
    /// The requests; a page may be empty and yet not the last one.
    pub asks: Vec<StoredAsk>,
    /// The position that the next page comes after; `None`: this is the last one.
    pub next: Option<RequestId>,
}

impl Database {
    /// A page of what was asked in a tenant. What it costs follows the page and 20,000 looked-through rows, not the table.
    pub async fn stored_asks(&self, scope: &Scope, filter: &AskFilter) -> Result<AskPage> {
        let first = first_id(filter.from - APART);
        let end = first_id(filter.to + APART);
        let before = filter.after.map_or(end, |RequestId(after)| after.min(end));
        let rows = self
            .all(|| {
                sqlx::query_file!(
                    "sql/stored_asks.sql",
                    scope.tenant.as_str(),
                    first,
                    before,
                    filter.from,
                    filter.to,
                    LOOKED_THROUGH,
                    filter.limit,
                    BYTES_OF_ENVELOPES,
                )
            })
            .await?;
        let (has_more, looked_to) = rows.first().map_or((false, None), |row| (row.has_more, row.looked_to));
        let asks: Vec<_> = rows
            .into_iter()
            .filter_map(|row| {
                Some(StoredAsk {
                    request_id: row.request_id?,
                    agent_id: row.agent_id?,
                    action_type: row.action_type?,
                    group: row.group,
                    on_behalf_of: row.on_behalf_of,
                    protocol: row.protocol,
                    envelope: row.envelope,
                    submitted: row.submitted,
                    outcome: row.outcome,
                    cause: row.cause,
                })
            })
            .collect();
        let next = if has_more { asks.last().map(|last| last.request_id) } else { looked_to };
        Ok(AskPage { asks, next })
    }
}

/// The least `UUIDv7` of a moment; of one that none can name, the nearest.
fn first_id(at: DateTime<Utc>) -> Uuid {
    const LAST: i64 = (1 << 48) - 1;
    let milliseconds = at.timestamp_millis().clamp(0, LAST);
    Builder::from_unix_timestamp_millis(milliseconds.cast_unsigned(), &[0; 10]).into_uuid()
}

#[cfg(test)]
mod tests {
    use relaytrace_domain::mint_uuid;

    use super::*;

    #[test]
    fn ids_of_a_moment_lie_between_its_bounds() {
        let at: DateTime<Utc> = "2026-11-27T12:00:00.123456Z".parse().unwrap();
        let id = mint_uuid(at);
        assert!(first_id(at) <= id && id < first_id(at + TimeDelta::milliseconds(1)));
        let bounds = ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"];
        let [before, epoch, far] = bounds.map(|at| first_id(at.parse().unwrap()));
        assert!(before == epoch && epoch < id && id < far);
    }
}
