//! The use of an approval, and what became of it (contract, "Permits").

use axum::Json;
use axum::extract::{Extension, State};
use relaytrace_domain::{AgentId, ConsumeKey, Digest, Note, Reported, RequestId, Result, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Agent, Execute, ExecuteAny};
use relaytrace_service::http::{JsonBody, Path, Problem, Trace};
use relaytrace_store::{Caller, Consuming, Reporting};
use serde::Serialize;
use utoipa::ToSchema;

/// An attempt to run an approved action.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct Consume {
    /// Names this attempt, fresh and random: the same again is the same use of the permit.
    consume_key: ConsumeKey,
    /// Of the action that is going to run.
    action_digest: Digest,
}

/// A permit that is used.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumedView {
    /// The agent that asked.
    agent_id: AgentId,
    request_id: RequestId,
    /// The action that was approved. A repeated attempt compares it with the action that it is going to run.
    action_digest: Digest,
    consumed_at: Timestamp,
    /// The key that used it.
    consumed_by: String,
    /// This attempt had used it before: run the action only if this very process has not.
    repeated: bool,
}

/// How the run of an action ended.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct Report {
    state: Reported,
    #[deserr(default)]
    note: Option<Note>,
    /// Of what proves it.
    #[deserr(default)]
    evidence_sha256: Option<Digest>,
}

/// An outcome on record.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomeView {
    /// The agent that asked.
    agent_id: AgentId,
    request_id: RequestId,
    state: Reported,
    note: Option<Note>,
    evidence_sha256: Option<Digest>,
    reported_at: Timestamp,
    /// The same was reported before.
    repeated: bool,
}

/// Use an approval
///
/// Once, whoever races for it. Checked in this order: the same attempt again, not approved, used already, another action,
/// revoked, frozen, expired.
#[utoipa::path(
    post, path = "/v1/agents/{agent_id}/requests/{request_id}/consume", tag = "poll", security(("agent" = [])),
    params(("agent_id" = String, Path), ("request_id" = String, Path)), request_body = Consume,
    responses(
        (status = 200, description = "Used by this attempt, now or before", body = ConsumedView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn consume(
    Agent(caller, _): Agent<Execute>,
    Path((_, request_id)): Path<(String, RequestId)>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(attempt): JsonBody<Consume>,
) -> Result<Json<ConsumedView>> {
    attempt.by(&state, caller, request_id, false, &trace.traceparent).await
}

/// Use another agent's approval
///
/// By a key with the scope `execute-any`: of the agents and action types that it names. What it does not name does not
/// exist. All else is as for the agent's own key.
#[utoipa::path(
    post, path = "/v1/hitl/requests/{request_id}/consume", tag = "poll", security(("agent" = [])),
    params(("request_id" = String, Path)), request_body = Consume,
    responses(
        (status = 200, description = "Used by this attempt, now or before", body = ConsumedView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn consume_any(
    Agent(caller, _): Agent<ExecuteAny>,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(attempt): JsonBody<Consume>,
) -> Result<Json<ConsumedView>> {
    attempt.by(&state, caller, request_id, true, &trace.traceparent).await
}

impl Consume {
    async fn by(
        self,
        state: &AppState,
        caller: Caller,
        request_id: RequestId,
        is_any: bool,
        traceparent: &str,
    ) -> Result<Json<ConsumedView>> {
        let Self { consume_key, action_digest } = self;
        let traceparent = Some(traceparent.to_owned());
        let consuming =
            Consuming { caller, request_id, consume_key, action_digest, is_any, is_assumed: false, traceparent };
        let (consumed, is_new) = state.relay.consume(consuming).await?;
        Ok(Json(ConsumedView {
            agent_id: consumed.agent_id,
            request_id,
            action_digest: consumed.action_digest,
            consumed_at: Timestamp(consumed.consumed_at),
            consumed_by: consumed.consumed_by,
            repeated: !is_new,
        }))
    }
}

/// Say what became of it
///
/// Once: the same again is the same report, another is refused. It replaces `unknown`.
#[utoipa::path(
    post, path = "/v1/agents/{agent_id}/requests/{request_id}/outcome", tag = "poll", security(("agent" = [])),
    params(("agent_id" = String, Path), ("request_id" = String, Path)), request_body = Report,
    responses(
        (status = 200, description = "On record, now or before", body = OutcomeView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn outcome(
    Agent(caller, _): Agent<Execute>,
    Path((_, request_id)): Path<(String, RequestId)>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(report): JsonBody<Report>,
) -> Result<Json<OutcomeView>> {
    report.by(&state, caller, request_id, false, &trace.traceparent).await
}

/// Say what became of another agent's approval
///
/// By the key that has used it, or another key of its agent. All else is as for the agent's own key.
#[utoipa::path(
    post, path = "/v1/hitl/requests/{request_id}/outcome", tag = "poll", security(("agent" = [])),
    params(("request_id" = String, Path)), request_body = Report,
    responses(
        (status = 200, description = "On record, now or before", body = OutcomeView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn outcome_any(
    Agent(caller, _): Agent<ExecuteAny>,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(report): JsonBody<Report>,
) -> Result<Json<OutcomeView>> {
    report.by(&state, caller, request_id, true, &trace.traceparent).await
}

impl Report {
    async fn by(
        self,
        state: &AppState,
        caller: Caller,
        request_id: RequestId,
        is_any: bool,
        traceparent: &str,
    ) -> Result<Json<OutcomeView>> {
        let Self { state: reported, note, evidence_sha256 } = self;
        let reporting = Reporting {
            caller,
            request_id,
            state: reported,
            note: note.clone(),
            evidence: evidence_sha256,
            is_any,
            traceparent: Some(traceparent.to_owned()),
        };
        let (noted, is_new) = state.relay.report_outcome(reporting).await?;
        Ok(Json(OutcomeView {
            agent_id: noted.agent_id,
            request_id,
            state: reported,
            note,
            evidence_sha256,
            reported_at: Timestamp(noted.reported_at),
            repeated: !is_new,
        }))
    }
}
