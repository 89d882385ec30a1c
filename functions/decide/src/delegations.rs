//! Delegations (contract, "Delegations").

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use relaytrace_domain::{ActedFor, ActorKind, DelegationId, Faults, GroupName, PersonId, Reason, Result, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Colleague, Operator, SignedIn};
use relaytrace_service::http::{Cursor, JsonBody, Page, Path, Problem, Query, clamped};
use relaytrace_store::{DelegationFilter, DelegationRecord, DelegationRule, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What to delegate.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewDelegation {
    /// The operator who may decide in the caller's place.
    to: PersonId,
    /// Of the caller's own groups: what these may decide.
    groups: Vec<GroupName>,
    /// Absent: from now on.
    #[deserr(default, from(Timestamp) = Some)]
    #[schema(nullable = false)]
    from: Option<Timestamp>,
    /// At most 90 days after `from`.
    until: Timestamp,
    /// 1 to 2,000 characters.
    reason: Reason,
}

impl NewDelegation {
    fn rule(mut self, scope: &Scope) -> Result<DelegationRule> {
        let mut faults = Faults::default();
        if self.to.as_str() == scope.actor.id {
            faults.add("/to", "must be another operator");
        }
        if self.groups.is_empty() {
            faults.add("/groups", "must name a group");
        }
        // Nobody passes on what was delegated to them, nor what they are not.
        for (place, group) in self.groups.iter().enumerate() {
            if !scope.groups.iter().any(|own| own == group.as_str()) {
                faults.add(format!("/groups/{place}"), "is none of your groups");
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        self.groups.sort_unstable();
        self.groups.dedup();
        let (from, until) = (self.from.map(|Timestamp(from)| from), self.until.0);
        Ok(DelegationRule { to: self.to, groups: self.groups, from, until, reason: self.reason })
    }
}

/// A delegation.
#[derive(Debug, Serialize, ToSchema)]
pub struct DelegationView {
    delegation_id: DelegationId,
    /// Who is acted for.
    by: ActedFor,
    /// Id of who acts.
    to: String,
    /// Null where they are not known yet.
    to_name: Option<String>,
    groups: Vec<String>,
    from: Timestamp,
    until: Timestamp,
    reason: String,
    created_at: Timestamp,
    /// Null where it was not ended.
    ended_at: Option<Timestamp>,
    ended_by: Option<String>,
    /// It counts now: it has begun and not ended, and its delegator was seen within 14 days and is not blocked.
    in_force: bool,
}

impl From<DelegationRecord> for DelegationView {
    fn from(delegation: DelegationRecord) -> Self {
        Self {
            delegation_id: delegation.delegation_id,
            by: ActedFor { id: delegation.delegator_id, name: delegation.delegator_name },
            to: delegation.delegate_id,
            to_name: delegation.delegate_name,
            groups: delegation.groups,
            from: Timestamp(delegation.starts_at),
            until: Timestamp(delegation.until),
            reason: delegation.reason,
            created_at: Timestamp(delegation.created_at),
            ended_at: delegation.ended_at.map(Timestamp),
            ended_by: delegation.ended_by,
            in_force: delegation.is_in_force,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DelegationQuery {
    /// From the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct DelegationCursor(Timestamp, DelegationId);

impl Cursor for DelegationCursor {}

/// See delegations
///
/// The newest first: those from and to the caller; all of the tenant for an administrator.
#[utoipa::path(
    get, path = "/v1/hitl/delegations", tag = "decide", security(("operator" = []), ("admin" = [])),
    params(DelegationQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<DelegationView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Colleague(scope): Colleague,
    State(state): State<AppState>,
    Query(query): Query<DelegationQuery>,
) -> Result<Json<Page<DelegationView>>> {
    let mut faults = Faults::default();
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.cursor.as_deref().map(DelegationCursor::decode).transpose()?;
    let after = after.map(|DelegationCursor(Timestamp(at), id)| (at, id));
    let of = (scope.actor.kind != ActorKind::Admin).then_some(scope.actor.id.as_str());
    let filter = DelegationFilter { delegation_id: None, of, after, limit: limit + 1 };
    let found = state.store.delegations(&scope, &filter).await?;
    let position = |last: &DelegationRecord| DelegationCursor(Timestamp(last.created_at), last.delegation_id.clone());
    let page = Page::of(found, limit, position);
    Ok(Json(page))
}

/// Delegate
///
/// Until it ends, `to` may decide what the caller may through these groups, and names the caller as `for`. It counts while the
/// caller was seen within 14 days and is not blocked. In place of another of its name; the same again: 200.
#[utoipa::path(
    put, path = "/v1/hitl/delegations/{delegation_id}", tag = "decide", security(("operator" = [])),
    params(("delegation_id" = String, Path)), request_body = NewDelegation,
    responses(
        (status = 200, description = "It counts for every decision that begins after this", body = DelegationView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn set(
    Operator(scope): Operator,
    SignedIn(person): SignedIn,
    Path(delegation_id): Path<DelegationId>,
    State(state): State<AppState>,
    JsonBody(new): JsonBody<NewDelegation>,
) -> Result<Json<DelegationView>> {
    let rule = new.rule(&scope)?;
    // It counts by what is known of the delegator: that is known from now on, not from a moment later.
    state.store.note_operator(&person.seen()).await?;
    Ok(Json(state.store.set_delegation(&scope, &delegation_id, &rule).await?.into()))
}

/// End a delegation
///
/// The caller's own; an administrator ends anybody's.
#[utoipa::path(
    delete, path = "/v1/hitl/delegations/{delegation_id}", tag = "decide", security(("operator" = []), ("admin" = [])),
    params(("delegation_id" = String, Path)),
    responses(
        (status = 204, description = "Ended, now or before; for every decision that begins after this"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn end(
    Colleague(scope): Colleague,
    Path(delegation_id): Path<DelegationId>,
    State(state): State<AppState>,
) -> Result<StatusCode> {
    state.store.end_delegation(&scope, &delegation_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
