//! Adjustments of pending requests: more time or another priority, by an administrator or a policy.

use chrono::{DateTime, Utc};

use relaytrace_domain::{Actor, ActorKind, Error, Priority, RequestId, Result, Status, TenantId, Timestamp};
use uuid::Uuid;

use crate::Scope;
use crate::batches::column;
use crate::database::Database;

/// An administrator's adjustment of a pending request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// To be answered until then.
    Extend(Timestamp),
    /// To be this urgent.
    Reprioritise(Priority),
}

/// One element of the statement: a request, and its new deadline or priority.
struct Adjusting<'a> {
    request_id: RequestId,
    tenant: Option<&'a TenantId>,
    kind: &'static str,
    priority: Option<i16>,
    respond_by: Option<DateTime<Utc>>,
    /// The policy that does it, and when it escalates next.
    policy: Option<(Uuid, Option<DateTime<Utc>>)>,
    actor: &'a Actor,
    reason: Option<&'a str>,
}

impl Database {
    /// Gives a pending request more time, or another priority. Where the priority changes, its time stays.
    ///
    /// # Errors
    /// [`Error::NotFound`]; but for the same administrator's same adjustment: [`Error::Expired`] where more time
    /// comes too late, [`Error::Conflict`] where it is decided or as wanted already, [`Error::Invalid`] where it is
    /// not more time.
    pub async fn adjust(&self, scope: &Scope, request_id: RequestId, wanted: Adjustment, reason: &str) -> Result<()> {
        let (kind, priority, respond_by) = match wanted {
            Adjustment::Extend(until) => ("extended", None, Some(until.0)),
            Adjustment::Reprioritise(priority) => ("reprioritised", Some(priority as i16), None),
        };
        let (tenant, actor, reason_given) = (Some(&scope.tenant), &scope.actor, Some(reason));
        let adjusting =
            Adjusting { request_id, tenant, kind, priority, respond_by, policy: None, actor, reason: reason_given };
        if self.adjust_all(&[&adjusting]).await? == 1 {
            return Ok(());
        }
        self.adjusted_before(scope, request_id, wanted, reason).await
    }

    /// Raises the priority of up to twice `limit` requests whose time is over and whose policy says so, or only of
    /// `only`: one step, with that step's time, never past the agent's own deadline. Safe when overlapping.
    pub async fn raise_due(&self, limit: i64, only: Option<RequestId>) -> Result<u64> {
        let due = self
            .all(|| sqlx::query_file!("sql/raise_due.sql", self.clock().for_database(), limit, only.map(|id| id.0)))
            .await?;
        if due.is_empty() {
            return Ok(0);
        }
        let actor = Actor::timeout_sweep();
        let adjusting: Vec<_> = due
            .into_iter()
            .map(|due| Adjusting {
                request_id: due.request_id,
                tenant: None,
                kind: "reprioritised",
                priority: i16::try_from(due.priority).ok(),
                respond_by: Some(due.respond_by),
                policy: Some((due.policy_id, due.escalate_at)),
                actor: &actor,
                reason: None,
            })
            .collect();
        self.adjust_all(&adjusting.iter().collect::<Vec<_>>()).await
    }

    /// How many were adjusted.
    async fn adjust_all(&self, rows: &[&Adjusting<'_>]) -> Result<u64> {
        let adjusted = self
            .all(|| {
                sqlx::query_file!(
                    "sql/adjust.sql",
                    self.clock().for_database(),
                    &column(rows, |row| row.request_id.0),
                    &column(rows, |row| row.tenant.map(TenantId::as_str)) as &[Option<&str>],
                    &column(rows, |row| row.kind) as &[&str],
                    &column(rows, |row| row.priority) as &[Option<i16>],
                    &column(rows, |row| row.respond_by) as &[Option<DateTime<Utc>>],
                    &column(rows, |row| row.policy.map(|(policy_id, _)| policy_id)) as &[Option<Uuid>],
                    &column(rows, |row| row.policy.and_then(|(_, escalate_at)| escalate_at))
                        as &[Option<DateTime<Utc>>],
                    &column(rows, |row| row.actor.kind) as &[ActorKind],
                    &column(rows, |row| row.actor.id.as_str()) as &[&str],
                    &column(rows, |row| row.actor.name.as_deref()) as &[Option<&str>],
                    &column(rows, |row| row.reason) as &[Option<&str>],
                )
            })
            .await?;
        Ok(adjusted.len() as u64)
    }

    /// Why an adjustment changed nothing: it was made before, or the state does not allow it.
    async fn adjusted_before(
        &self,
        scope: &Scope,
        request_id: RequestId,
        wanted: Adjustment,
        reason: &str,
    ) -> Result<()> {
        let found = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/adjusted_before.sql",
                    self.clock().for_database(),
                    request_id.0,
                    scope.tenant.as_str()
                )
            })
            .await?
            .ok_or(Error::NotFound)?;
        let mut entries = found.entries.iter().map(|bytes| serde_json::from_slice::<AdjustedEntry>(bytes));
        // A later deadline never comes back, so any entry will do; a priority may, so only the newest one.
        let is_repeated = match wanted {
            Adjustment::Extend(until) => entries.flatten().any(|entry| {
                entry.kind == "extended" && entry.respond_by == until && entry.is_by(&scope.actor, reason)
            }),
            Adjustment::Reprioritise(to) => entries
                .find_map(|entry| entry.ok().filter(|entry| entry.kind == "reprioritised"))
                .is_some_and(|entry| entry.priority == to && entry.is_by(&scope.actor, reason)),
        };
        match wanted {
            _ if is_repeated => Ok(()),
            Adjustment::Extend(_) if found.now >= found.respond_by => {
                Err(Error::Expired { respond_by: Timestamp(found.respond_by) })
            }
            _ if found.status == Status::Decided => Err(Error::Conflict("the request is decided")),
            Adjustment::Extend(until) if until.0 < found.respond_by => {
                Err(Error::invalid("/respond_by", "must be later than the respond_by that stands"))
            }
            Adjustment::Extend(_) => Err(Error::Conflict("the request has this respond_by already")),
            Adjustment::Reprioritise(_) => Err(Error::Conflict("the request has this priority already")),
        }
    }
}

/// The values of an `extended` or `reprioritised` entry.
#[derive(serde::Deserialize)]
struct AdjustedEntry {
    kind: String,
    actor: Actor,
    priority: Priority,
    respond_by: Timestamp,
    reason: Option<String>,
}

impl AdjustedEntry {
    fn is_by(&self, actor: &Actor, reason: &str) -> bool {
        self.actor.kind == actor.kind && self.actor.id == actor.id && self.reason.as_deref() == Some(reason)
    }
}
