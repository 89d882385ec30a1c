//! Reroutes: others are to decide a request (contract, "Who may decide").

use relaytrace_domain::{ActorKind, AgentId, AssignedTo, Error, Reason, RequestId, Result};
use serde::Deserialize;

use crate::Detail;
use crate::database::Database;
use crate::{OutboxEvent, Scope};

/// A reroute.
#[derive(Clone, Debug)]
pub struct Rerouting {
    /// The request.
    pub request_id: RequestId,
    /// Who does it: one of those who may decide it, or an administrator.
    pub scope: Scope,
    /// To whom; no name twice, sorted.
    pub to: AssignedTo,
    /// Why.
    pub reason: Reason,
    /// W3C trace context of the call.
    pub traceparent: Option<String>,
}

/// What the latest `rerouted` entry says.
#[derive(Deserialize)]
struct Rerouted {
    kind: String,
    actor: relaytrace_domain::Actor,
    #[serde(default)]
    reason: Option<String>,
}

impl Rerouting {
    /// Whether the request was last rerouted by this call.
    fn is_repeated(&self, detail: &Detail) -> bool {
        let is_set = |one: &[String], other: &[String]| {
            one.iter().all(|name| other.contains(name)) && other.iter().all(|name| one.contains(name))
        };
        let stands = detail.item.assigned_to.as_ref().is_some_and(|standing| {
            is_set(&standing.groups, &self.to.groups) && is_set(&standing.operators, &self.to.operators)
        });
        stands
            && reroutes(detail).next().is_some_and(|latest| {
                latest.actor.id == self.scope.actor.id && latest.reason.as_deref() == Some(self.reason.as_str())
            })
    }
}

/// Most reroutes of a request: each is an entry of its chain, which the detail shows whole.
const MOST_REROUTES: usize = 25;

/// The reroutes of a request, the latest first.
fn reroutes(detail: &Detail) -> impl Iterator<Item = Rerouted> {
    let entries = detail.chain.iter().rev().filter_map(|(bytes, _)| serde_json::from_slice::<Rerouted>(bytes).ok());
    entries.filter(|entry| entry.kind == "rerouted")
}

impl Database {
    /// Reroutes a request; `None`: it was rerouted like this before.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the first that applies of [`Error::AlreadyDecided`], [`Error::Expired`],
    /// [`Error::NotAssigned`], [`Error::Conflict`] where it was rerouted too often, and [`Error::Forbidden`] where the rule does not let it go there.
    pub async fn reroute(&self, rerouting: &Rerouting) -> Result<Option<OutboxEvent>> {
        let Rerouting { request_id, scope, to, reason, traceparent } = rerouting;
        let is_admin = scope.actor.kind == ActorKind::Admin;
        let person = (!is_admin).then(|| scope.person());
        let some = |names: &'_ [String]| (!names.is_empty()).then(|| names.to_vec());
        let (groups, operators) = (some(&to.groups), some(&to.operators));
        let detail = self.detail(scope, *request_id).await?.ok_or(Error::NotFound)?;
        if rerouting.is_repeated(&detail) {
            return Ok(None);
        }
        if reroutes(&detail).count() >= MOST_REROUTES {
            return Err(Error::Conflict("it was rerouted 25 times: decide it or take it back"));
        }
        let rerouted = self
            .optional(|| {
                sqlx::query_file_as!(
                    OutboxEvent,
                    "sql/assign.sql",
                    self.clock().for_database(),
                    request_id.0,
                    scope.tenant.as_str(),
                    groups.as_deref(),
                    operators.as_deref(),
                    reason.as_str(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                    person.clone(),
                    traceparent.as_deref(),
                )
            })
            .await?;
        match rerouted {
            Some(event) => Ok(Some(event)),
            None => Err(match self.why_not_touched(scope, *request_id).await? {
                // Nothing else stands against it.
                Error::Unavailable(_) => {
                    Error::Forbidden("the rule does not let it go there: an administrator may reroute it")
                }
                error => error,
            }),
        }
    }
}
