//! Timeout policies.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use relaytrace_domain::Result;
use relaytrace_domain::{ActionType, AgentId, Faults, MAX_APPROVALS, OnTimeout, Priority, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{JsonBody, Path, Problem};
use relaytrace_store::{PolicyRecord, PolicyRule};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest time of a policy: a year.
const LONGEST_SECONDS: u32 = 365 * 24 * 3_600;

/// Whether an approval must be consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, deserr::Deserr, ToSchema)]
#[serde(rename_all = "lowercase")]
#[deserr(rename_all = lowercase)]
pub enum ConsumeRule {
    /// Before its delivery is accepted.
    Required,
}

/// A timeout policy. The most specific one applies: agent and action type, agent, action type, neither.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyView {
    /// Names it in the `submitted` and `reprioritised` entries of chains.
    #[schema(value_type = String, format = "uuid")]
    policy_id: String,
    /// Null: any agent.
    agent_id: Option<AgentId>,
    /// Null: any action type.
    action_type: Option<ActionType>,
    priority: Priority,
    respond_within_seconds: i32,
    /// Null: never.
    escalate_after_percent: Option<i16>,
    on_timeout: OnTimeout,
    /// Null: any priority may be asked with.
    lowest_priority: Option<Priority>,
    /// How long an approval may be used at the most; null: the policy does not say.
    permit_seconds: Option<i32>,
    /// Null: an agent may accept a decision and never consume it.
    consume: Option<ConsumeRule>,
    /// Approvals of operators that decide; null: one.
    approvals: Option<i16>,
    updated_at: Timestamp,
    updated_by: String,
}

impl From<PolicyRecord> for PolicyView {
    fn from(policy: PolicyRecord) -> Self {
        Self {
            policy_id: policy.policy_id.to_string(),
            agent_id: policy.agent_id,
            action_type: policy.action_type,
            priority: policy.priority,
            respond_within_seconds: policy.respond_within_seconds,
            escalate_after_percent: policy.escalate_after_percent,
            on_timeout: policy.on_timeout,
            lowest_priority: policy.lowest_priority,
            permit_seconds: policy.permit_seconds,
            consume: policy.consume_required.then_some(ConsumeRule::Required),
            approvals: policy.approvals,
            updated_at: Timestamp(policy.updated_at),
            updated_by: policy.updated_by,
        }
    }
}

/// All timeout policies, the widest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Policies {
    items: Vec<PolicyView>,
}

/// List timeout policies
#[utoipa::path(
    get, path = "/v1/admin/timeout-policies", tag = "admin", security(("admin" = [])),
    responses(
        (status = 200, description = "All of them", body = Policies),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(Admin(scope): Admin, State(state): State<AppState>) -> Result<Json<Policies>> {
    let items = state.store.policies(&scope).await?.into_iter().map(PolicyView::from).collect();
    Ok(Json(Policies { items }))
}

/// The policy of one scope: agent, action type and priority.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewPolicy {
    /// Absent or null: any agent.
    #[deserr(default)]
    agent_id: Option<AgentId>,
    /// Absent or null: any action type.
    #[deserr(default)]
    action_type: Option<ActionType>,
    priority: Priority,
    /// 1 second to a year.
    respond_within_seconds: u32,
    /// 1 to 99; absent or null: never.
    #[deserr(default)]
    escalate_after_percent: Option<u8>,
    /// Absent: `auto_reject`.
    #[deserr(default)]
    #[schema(required = false)]
    on_timeout: OnTimeout,
    /// The least urgent priority that may be asked with in this scope, whatever `priority` is.
    #[deserr(default)]
    lowest_priority: Option<Priority>,
    /// 10 to 86,400; absent or null: the policy does not say.
    #[deserr(default)]
    permit_seconds: Option<u32>,
    /// `required`: a usable approval is accepted only after it was consumed.
    #[deserr(default)]
    consume: Option<ConsumeRule>,
    /// 1 to 10 approvals of different operators decide; absent or null: one.
    #[deserr(default)]
    approvals: Option<u8>,
}

impl NewPolicy {
    fn parse(self, allow_auto_approve: bool) -> Result<PolicyRule> {
        let mut faults = Faults::default();
        if !(1..=LONGEST_SECONDS).contains(&self.respond_within_seconds) {
            faults.add("/respond_within_seconds", format!("must be from 1 to {LONGEST_SECONDS}"));
        }
        if self.escalate_after_percent.is_some_and(|percent| !(1..=99).contains(&percent)) {
            faults.add("/escalate_after_percent", "must be from 1 to 99");
        }
        if self.permit_seconds.is_some_and(|seconds| !(10..=86_400).contains(&seconds)) {
            faults.add("/permit_seconds", "must be from 10 to 86400");
        }
        if self.approvals.is_some_and(|approvals| !(1..=MAX_APPROVALS).contains(&approvals)) {
            faults.add("/approvals", format!("must be from 1 to {MAX_APPROVALS}"));
        }
        if self.on_timeout == OnTimeout::AutoApprove {
            let is_narrow = self.agent_id.is_some() && self.action_type.is_some();
            let refusals = [
                (!allow_auto_approve, "auto_approve is not enabled in this deployment"),
                (!is_narrow, "auto_approve needs a policy that names both the agent and the action type"),
                (self.consume.is_some(), "auto_approve is never where consume is required"),
                (self.approvals > Some(1), "auto_approve is never where more than one approval is required"),
                (self.priority == Priority::P1, "auto_approve is never for P1"),
            ];
            for (_, reason) in refusals.into_iter().filter(|(is_refused, _)| *is_refused) {
                faults.add("/on_timeout", reason);
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        Ok(PolicyRule {
            agent_id: self.agent_id,
            action_type: self.action_type,
            priority: self.priority,
            respond_within_seconds: self.respond_within_seconds.cast_signed(),
            escalate_after_percent: self.escalate_after_percent.map(i16::from),
            on_timeout: self.on_timeout,
            lowest_priority: self.lowest_priority,
            permit_seconds: self.permit_seconds.map(u32::cast_signed),
            consume_required: self.consume.is_some(),
            approvals: self.approvals.map(i16::from),
        })
    }
}

/// Set a timeout policy
///
/// Requests keep the policy of their submission.
#[utoipa::path(
    put, path = "/v1/admin/timeout-policies", tag = "admin", security(("admin" = [])), request_body = NewPolicy,
    responses(
        (status = 200, description = "The policy of this scope from now on", body = PolicyView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn set(
    Admin(scope): Admin,
    State(state): State<AppState>,
    JsonBody(new): JsonBody<NewPolicy>,
) -> Result<Json<PolicyView>> {
    let rule = new.parse(state.timeouts.allow_auto_approve)?;
    Ok(Json(state.store.set_policy(&scope, &rule).await?.into()))
}

/// Remove a timeout policy
///
/// What was submitted before keeps what applied then; the log keeps the policy. The policy of every agent and action type
/// can only be changed.
#[utoipa::path(
    delete, path = "/v1/admin/timeout-policies/{policy_id}", tag = "admin", security(("admin" = [])),
    params(("policy_id" = String, Path)),
    responses(
        (status = 204, description = "Removed, now or before"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn delete(
    Admin(scope): Admin,
    Path(policy_id): Path<Uuid>,
    State(state): State<AppState>,
) -> Result<StatusCode> {
    state.store.delete_policy(&scope, policy_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
