//! Delegations: an operator lets another decide what some of their groups may (contract, "Delegations").

use chrono::{DateTime, Utc};
use relaytrace_domain::{
    ActedFor, ActorKind, DelegationId, Error, Faults, GroupName, PersonId, Reason, RequestId, Result,
};

use crate::Scope;
use crate::database::Database;

/// What an operator delegates.
#[derive(Clone, Debug)]
pub struct DelegationRule {
    /// The operator who acts.
    pub to: PersonId,
    /// Of the delegator's groups: what these may decide.
    pub groups: Vec<GroupName>,
    /// From when on; `None`: from now on.
    pub from: Option<DateTime<Utc>>,
    /// Until when, at most 90 days later.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: Reason,
}

/// A stored delegation.
#[derive(Clone, Debug)]
pub struct DelegationRecord {
    /// The delegator's own name of it.
    pub delegation_id: DelegationId,
    /// The operator who is acted for.
    pub delegator_id: String,
    /// Their name.
    pub delegator_name: Option<String>,
    /// The operator who acts.
    pub delegate_id: String,
    /// Their name, if they are known.
    pub delegate_name: Option<String>,
    /// What these groups of the delegator may decide.
    pub groups: Vec<String>,
    /// From when on.
    pub starts_at: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who ended it.
    pub ended_by: Option<String>,
    /// It counts for a decision now.
    pub is_in_force: bool,
}

/// Which delegations.
#[derive(Clone, Debug, Default)]
pub struct DelegationFilter<'a> {
    /// Only of this name.
    pub delegation_id: Option<&'a DelegationId>,
    /// Only from or to this operator.
    pub of: Option<&'a str>,
    /// Older than this one.
    pub after: Option<(DateTime<Utc>, DelegationId)>,
    /// At most so many.
    pub limit: i64,
}

impl Database {
    /// The caller, acting for this operator; whether they may is for the decision's own statement to say.
    pub async fn acting_for(&self, scope: Scope, operator: &PersonId) -> Result<Scope> {
        let (tenant, id) = (scope.tenant.as_str(), operator.as_str());
        let known = self.optional(|| sqlx::query_file!("sql/operator_named.sql", tenant, id)).await?;
        let acted_for = ActedFor { id: operator.to_string(), name: known.and_then(|known| known.name) };
        Ok(scope.acting_for(acted_for))
    }

    /// Makes a delegation of the caller's, in place of another of its name; the same again is the one that stands.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Conflict`] where the name is another operator's, or too many stand.
    pub async fn set_delegation(
        &self,
        scope: &Scope,
        delegation_id: &DelegationId,
        rule: &DelegationRule,
    ) -> Result<DelegationRecord> {
        const TRIES: usize = 10;
        /// Each is asked about where somebody acts for its delegator.
        const MOST: i64 = 100;
        let groups: Vec<&str> = rule.groups.iter().map(GroupName::as_str).collect();
        for _ in 0..TRIES {
            let row = self
                .one(|| {
                    sqlx::query_file!(
                        "sql/set_delegation.sql",
                        self.clock().for_database(),
                        scope.tenant.as_str(),
                        delegation_id.as_str(),
                        &scope.actor.id,
                        scope.actor.name.as_deref(),
                        rule.to.as_str(),
                        &groups as &[&str],
                        rule.from,
                        rule.until,
                        rule.reason.as_str(),
                        scope.actor.kind as ActorKind,
                        MOST,
                    )
                })
                .await?;
            if row.is_anothers {
                return Err(Error::Conflict("the name is another operator's"));
            }
            let mut faults = Faults::default();
            for (holds, rule) in [
                (row.is_ahead, "must lie in the future, and after from"),
                (row.is_short, "must be at most 90 days after from"),
            ] {
                if !holds {
                    faults.add("/until", rule);
                }
            }
            if !faults.is_empty() {
                return Err(faults.into());
            }
            if !row.has_room && !row.is_made {
                return Err(Error::Conflict("100 delegations of yours stand already: end one"));
            }
            if row.is_made {
                let filter = DelegationFilter { delegation_id: Some(delegation_id), limit: 1, ..Default::default() };
                return self.delegations(scope, &filter).await?.pop().ok_or(Error::NotFound);
            }
        }
        Err(Error::Unavailable(anyhow::anyhow!("a delegation found neither its place nor what took it")))
    }

    /// Delegations, the newest first.
    pub async fn delegations(&self, scope: &Scope, filter: &DelegationFilter<'_>) -> Result<Vec<DelegationRecord>> {
        let after = filter.after.as_ref();
        self.all(|| {
            sqlx::query_file_as!(
                DelegationRecord,
                "sql/delegations.sql",
                self.clock().for_database(),
                scope.tenant.as_str(),
                filter.delegation_id.map(DelegationId::as_str),
                filter.of,
                after.map(|(at, _)| *at),
                after.map(|(_, delegation_id)| delegation_id.as_str()),
                filter.limit,
            )
        })
        .await
    }

    /// Ends a delegation: the caller's own, or as an administrator anybody's. It counts for every decision that begins
    /// after this. Ending it again is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`] where it is another operator's.
    pub async fn end_delegation(&self, scope: &Scope, delegation_id: &DelegationId) -> Result<()> {
        let is_admin = scope.actor.kind == ActorKind::Admin;
        let ended = self
            .execute(|| {
                sqlx::query_file!(
                    "sql/end_delegation.sql",
                    self.clock().for_database(),
                    scope.tenant.as_str(),
                    delegation_id.as_str(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                    is_admin,
                )
            })
            .await?;
        if ended.rows_affected() > 0 {
            return Ok(());
        }
        let filter = DelegationFilter { delegation_id: Some(delegation_id), limit: 1, ..Default::default() };
        match self.delegations(scope, &filter).await?.pop() {
            None => Err(Error::NotFound),
            Some(found) if is_admin || found.delegator_id == scope.actor.id => Ok(()),
            Some(_) => Err(Error::Forbidden("the delegation is another operator's")),
        }
    }

    /// Says who is at a request; whoever says it later is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::AlreadyDecided`], [`Error::Expired`], [`Error::NotAssigned`].
    pub async fn claim(&self, scope: &Scope, request_id: RequestId, seconds: i32) -> Result<DateTime<Utc>> {
        let claimed = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/claim.sql",
                    self.clock().for_database(),
                    request_id.0,
                    scope.tenant.as_str(),
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                    f64::from(seconds),
                    scope.person(),
                )
            })
            .await?;
        match claimed {
            Some(claimed) => Ok(claimed.claimed_until),
            None => Err(self.why_not_touched(scope, request_id).await?),
        }
    }

    /// Takes the caller's own claim back. Nobody's is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn release_claim(&self, scope: &Scope, request_id: RequestId) -> Result<()> {
        let row = self
            .one(|| sqlx::query_file!("sql/release_claim.sql", request_id.0, scope.tenant.as_str(), &scope.actor.id))
            .await?;
        if row.is_there { Ok(()) } else { Err(Error::NotFound) }
    }

    /// Why a pending request was not touched, in the order in which a decision is refused.
    pub(crate) async fn why_not_touched(&self, scope: &Scope, request_id: RequestId) -> Result<Error> {
        let detail = self.detail(scope, request_id).await?.ok_or(Error::NotFound)?;
        Ok(match detail.decision {
            Some(decision) => Error::AlreadyDecided(Box::new(decision)),
            None if detail.is_over => {
                Error::Expired { respond_by: relaytrace_domain::Timestamp(detail.item.respond_by) }
            }
            None if !detail.may_decide && detail.may_act_for.is_empty() => Error::NotAssigned,
            None => Error::Unavailable(anyhow::anyhow!("a request was not touched and no reason was found")),
        })
    }
}
