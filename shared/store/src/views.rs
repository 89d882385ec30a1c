//! Requests as their agent sees them. Looks at the same time share a statement, as writes do: they change nothing.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use relaytrace_domain::rules::RuleOf;
use relaytrace_domain::{
    ActorKind, Approvals, ClientRequestKey, Error, Execution, Outcome, Permit, Priority, RequestId, Result, Status,
    Written,
};

use crate::batches::{Row, column};
use crate::chain::digest;
use crate::database::Database;
use crate::deliveries::Delivered;
use crate::measures::BatchKind;
use crate::writers::Store;
use crate::{Caller, RequestState};

/// Bytes that a statement of several is reckoned to take for a look: few requests are long.
const SIZE: usize = 4 * 1024;

/// A look at one of an agent's requests.
#[derive(Clone, Debug)]
pub(crate) struct View {
    caller: Caller,
    request_id: RequestId,
}

/// A look's answer: the request, and its decision if it has one. `None`: the agent has no such request.
type Seen = Option<(RequestState, Option<Delivered>)>;

impl Row for View {
    const KIND: BatchKind = BatchKind::Look;

    type Written = Seen;
    /// Two looks at one request are two rows of the answer.
    type Key<'a> = usize;

    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn size(&self) -> usize {
        SIZE
    }

    async fn ready(database: &Database) -> Result<()> {
        database.polls.ready().await
    }

    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<Seen>>> {
        let found = database
            .all_for_polls(|| {
                sqlx::query_file_as!(
                    RequestRow,
                    "sql/request_of.sql",
                    &column(rows, |row| row.caller.key_id.as_str()) as &[&str],
                    &column(rows, |row| row.caller.agent_id.as_str()) as &[&str],
                    &column(rows, |row| row.request_id.0),
                    database.clock().for_database(),
                )
            })
            .await?;
        let mut seen: Vec<Option<Seen>> = std::iter::repeat_with(|| None).take(rows.len()).collect();
        for row in found {
            let at = usize::try_from(row.number - 1).ok().filter(|at| *at < rows.len());
            let at = at.ok_or_else(|| Error::internal(anyhow::anyhow!("a request for a look that is not there")))?;
            seen[at] = Some(row.read(&rows[at].caller)?);
        }
        Ok(seen)
    }
}

/// A request as the statement gives it.
struct RequestRow {
    number: i64,
    request_id: Option<RequestId>,
    client_request_key: Option<ClientRequestKey>,
    status: Option<Status>,
    priority: Option<Priority>,
    created_at: Option<DateTime<Utc>>,
    respond_by: Option<DateTime<Utc>>,
    action_digest: Option<Vec<u8>>,
    action_type: Option<String>,
    entry: Option<Vec<u8>>,
    prev_hash: Option<Vec<u8>>,
    hash: Option<Vec<u8>>,
    resume: Option<Vec<u8>>,
    submitted: Option<Vec<u8>>,
    submitted_hash: Option<Vec<u8>>,
    is_from_before: Option<bool>,
    written_action: Option<Vec<u8>>,
    written_response: Option<Vec<u8>>,
    attempt: Option<i32>,
    replayed: Option<bool>,
    permit_expires_at: Option<DateTime<Utc>>,
    rule_name: Option<String>,
    rules_version: Option<i32>,
    approvals_required: Option<i16>,
    approvals_given: Option<i16>,
    outcome: Option<Outcome>,
    decided_by_kind: Option<ActorKind>,
    execution: Execution,
}

impl RequestRow {
    /// The request and its decision; `None`: the agent has no such request.
    fn read(self, caller: &Caller) -> Result<Option<(RequestState, Option<Delivered>)>> {
        let row = self;
        let (
            Some(request_id),
            Some(client_request_key),
            Some(status),
            Some(priority),
            Some(created_at),
            Some(respond_by),
        ) = (row.request_id, row.client_request_key, row.status, row.priority, row.created_at, row.respond_by)
        else {
            return Ok(None);
        };
        let state = RequestState {
            agent_id: caller.agent_id.clone(),
            request_id,
            client_request_key: client_request_key.clone(),
            status,
            priority,
            created_at,
            respond_by,
            action_digest: digest(row.action_digest.unwrap_or_default())?,
            execution: row.execution,
            approvals: Approvals::stored(
                row.approvals_required,
                row.approvals_given,
                row.outcome.zip(row.decided_by_kind),
            )?,
            rule: RuleOf::stored(row.rule_name, row.rules_version),
        };
        let (Some(entry), Some(prev_hash), Some(hash)) = (row.entry, row.prev_hash, row.hash) else {
            return Ok(Some((state, None)));
        };
        let delivered = Delivered {
            request_id,
            client_request_key,
            action_type: row.action_type.unwrap_or_default(),
            entry,
            prev_hash: digest(prev_hash)?,
            hash: digest(hash)?,
            submitted: row.submitted.unwrap_or_default(),
            submitted_hash: digest(row.submitted_hash.unwrap_or_default())?,
            is_from_before: row.is_from_before.unwrap_or_default(),
            resume: row.resume,
            permit: row.permit_expires_at.map(Permit::from),
            written: Written::stored(row.written_action, row.written_response)?,
            attempt: row.attempt.unwrap_or_default(),
            replayed: row.replayed.unwrap_or_default(),
            lease: None,
        };
        Ok(Some((state, Some(delivered))))
    }
}

impl Store {
    /// A request as its agent may see it, with its decision if it has one.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the agent has no such request, [`Error::Unauthenticated`] where the key or agent is
    /// no longer active.
    pub async fn request_of(
        &self,
        caller: &Caller,
        request_id: RequestId,
    ) -> Result<(RequestState, Option<Delivered>)> {
        let view = Arc::new(View { caller: caller.clone(), request_id });
        seen(self.write(|batched| &batched.viewing, &view).await?)?.ok_or(Error::NotFound)
    }
}

impl Database {
    /// The same with a statement of its own.
    pub(crate) async fn request_alone(
        &self,
        caller: &Caller,
        request_id: RequestId,
    ) -> Result<(RequestState, Option<Delivered>)> {
        self.requests_of(caller, &[request_id]).await?.pop().ok_or(Error::NotFound)
    }

    /// Those of these requests that are the agent's, in their order.
    pub(crate) async fn requests_of(
        &self,
        caller: &Caller,
        request_ids: &[RequestId],
    ) -> Result<Vec<(RequestState, Option<Delivered>)>> {
        let views: Vec<_> =
            request_ids.iter().map(|request_id| View { caller: caller.clone(), request_id: *request_id }).collect();
        let found = View::write(self, &views.iter().collect::<Vec<_>>()).await?;
        found.into_iter().filter_map(|found| seen(found).transpose()).collect()
    }
}

/// What a look found, where its key is active.
fn seen(found: Option<Seen>) -> Result<Seen> {
    found.ok_or(Error::Unauthenticated("the key is revoked or its agent disabled"))
}

#[cfg(test)]
mod tests {
    use relaytrace_domain::Clock;

    use super::*;

    #[tokio::test]
    async fn a_look_that_waits_for_others_holds_no_room_for_a_statement() {
        let store = Store::connect_lazily("postgres://127.0.0.1:9".parse().unwrap(), 1, Clock::system()).in_batches();
        let caller = Caller { agent_id: "agent".parse().unwrap(), key_id: "key".parse().unwrap() };
        let look = store.request_of(&caller, RequestId::mint(store.clock().now()));
        let size = size_of_val(&look);
        assert!(size < 2_048, "{size} bytes");
    }
}
