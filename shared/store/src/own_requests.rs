//! Lists of an agent's own requests.

use chrono::{DateTime, Utc};

use crate::chain::digest;
use crate::database::Database;
use crate::deliveries::Delivered;
use crate::{Caller, RequestState};
use relaytrace_domain::rules::RuleOf;
use relaytrace_domain::{Approvals, ClientRequestKey, Error, Execution, GroupKey, Priority, RequestId, Result, Status};

/// So many pending requests of the tenant's queue are looked through for one page: the queue's index is the tenant's, and
/// one of each agent's would cost every submission and decision.
const LOOKED_THROUGH: i64 = 5_000;

/// Most bytes of a page of a group: an answer stays under 1 MB (contract, "Limits").
const LONGEST: i64 = 900_000;

/// A place in the order of pending requests: behind this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingPosition {
    /// Its priority.
    pub priority: Priority,
    /// Its deadline.
    pub respond_by: DateTime<Utc>,
    /// Itself.
    pub request_id: RequestId,
}

/// Some of an agent's pending requests, in the queue's order.
#[derive(Clone, Debug)]
pub struct PendingPage {
    /// The requests.
    pub items: Vec<RequestState>,
    /// Where the next page starts; `None`: nothing follows.
    pub next: Option<PendingPosition>,
}

impl Database {
    /// The request that a key of the agent stands for, if any.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active.
    pub async fn request_of_key(&self, caller: &Caller, key: &ClientRequestKey) -> Result<Option<RequestId>> {
        let found = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/request_of_key.sql",
                    self.clock().for_database(),
                    caller.key_id.as_str(),
                    caller.agent_id.as_str(),
                    key.as_str(),
                )
            })
            .await?;
        Ok(found.ok_or(Error::Unauthenticated("the key is revoked or its agent disabled"))?.request_id)
    }

    /// A page of the requests of one of the agent's groups, by id, with their decisions; and behind which request the next
    /// page starts.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active.
    pub async fn group_of(
        &self,
        caller: &Caller,
        group: &GroupKey,
        after: Option<RequestId>,
        limit: i64,
    ) -> Result<(Vec<(RequestState, Option<Delivered>)>, Option<RequestId>)> {
        let found = self
            .all(|| {
                sqlx::query_file!(
                    "sql/group_of.sql",
                    caller.key_id.as_str(),
                    caller.agent_id.as_str(),
                    group.as_str(),
                    after.map(|after| after.0),
                    limit,
                )
            })
            .await?;
        if found.is_empty() {
            return Err(Error::Unauthenticated("the key is revoked or its agent disabled"));
        }
        let all: Vec<_> = found.into_iter().filter_map(|row| Some((row.request_id?, row.size?))).collect();
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        // The first one has room whatever its size.
        let fitting =
            all.iter().take(wanted).enumerate().take_while(|(index, (_, size))| *index == 0 || *size <= LONGEST);
        let ids: Vec<_> = fitting.map(|(_, (request_id, _))| *request_id).collect();
        let next = ids.last().copied().filter(|_| ids.len() < all.len());
        if ids.is_empty() {
            return Ok((Vec::new(), None));
        }
        Ok((self.requests_of(caller, &ids).await?, next))
    }

    /// A page of the agent's pending requests, in the queue's order.
    ///
    /// A page looks through 5,000 pending requests of all agents at the most: it may hold fewer than `limit`, or none,
    /// and still have a next one.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active.
    pub async fn pending_of(&self, caller: &Caller, after: Option<PendingPosition>, limit: i64) -> Result<PendingPage> {
        let rows = self
            .all(|| {
                sqlx::query_file!(
                    "sql/pending_of.sql",
                    caller.key_id.as_str(),
                    caller.agent_id.as_str(),
                    after.map(|after| after.priority as i16),
                    after.map(|after| after.respond_by),
                    after.map(|after| after.request_id.0),
                    limit,
                    LOOKED_THROUGH,
                )
            })
            .await?;
        let Some(first) = rows.first() else {
            return Err(Error::Unauthenticated("the key is revoked or its agent disabled"));
        };
        let mut next = match (first.looked_priority, first.looked_respond_by, first.looked_request_id) {
            (Some(priority), Some(respond_by), Some(request_id)) => {
                Some(PendingPosition { priority, respond_by, request_id })
            }
            _ => None,
        };
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let (Some(request_id), Some(key), Some(priority), Some(created_at), Some(respond_by), Some(action)) = (
                row.request_id,
                row.client_request_key,
                row.priority,
                row.created_at,
                row.respond_by,
                row.action_digest,
            ) else {
                continue;
            };
            items.push(RequestState {
                agent_id: caller.agent_id.clone(),
                request_id,
                client_request_key: key,
                status: Status::Pending,
                priority,
                created_at,
                respond_by,
                action_digest: digest(action)?,
                execution: Execution::None,
                approvals: Approvals::stored(row.approvals_required, row.approvals_given, None)?,
                rule: RuleOf::stored(row.rule_name, row.rules_version),
            });
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if items.len() > limit {
            items.truncate(limit);
            next = items.last().map(|last| PendingPosition {
                priority: last.priority,
                respond_by: last.respond_by,
                request_id: last.request_id,
            });
        }
        Ok(PendingPage { items, next })
    }
}
