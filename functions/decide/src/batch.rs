//! Several answers in one call: `POST /v1/hitl/decisions` (contract, "Decisions in one call").

use std::collections::HashSet;

use axum::Json;
use axum::extract::{Extension, State};
use deserr::Deserr;
use http::StatusCode;
use relaytrace_domain::{Decision, Digest, Error, Faults, Outcome, Reason, RequestId, Result, Verdict, Voted};
use relaytrace_service::AppState;
use relaytrace_service::auth::Operator;
use relaytrace_service::http::{JsonBody, Problem, Trace};
use relaytrace_store::{Authority, Deciding, Scope};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Answers of a call.
const MOST: usize = 100;
/// Once the results are this long, further ones are shortened: the answer stays under 1 MB (contract, "Limits").
const LONGEST: usize = 700_000;

/// What a batch can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr, ToSchema)]
#[serde(rename_all = "lowercase")]
#[deserr(rename_all = lowercase)]
enum Choice {
    Approve,
    Reject,
}

/// One answer.
#[derive(Debug, Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
#[schema(as = BatchedAnswer)]
struct Answer {
    request_id: RequestId,
    decision: Choice,
    /// 1 to 2,000 characters; required to reject.
    #[deserr(default)]
    reason: Option<Reason>,
    /// Of the action that the operator saw.
    action_digest: Digest,
}

/// Answers to different requests.
#[derive(Debug, Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
#[schema(as = BatchedAnswers)]
pub struct Body {
    /// 1 to 100, each of another request.
    decisions: Vec<Answer>,
}

/// The result of one answer: its `decision`, its `vote` or its `problem`, as if it had been sent alone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchedResult)]
struct Told {
    request_id: RequestId,
    /// The status that it would have had alone.
    http_status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vote: Option<Voted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    problem: Option<Box<RawValue>>,
    /// The answer would have become too long: of this result's decision `reason`, `action` and `response` are left out.
    /// The request's detail has them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shortened: bool,
}

/// The results, in the order of the answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchedResults)]
pub struct Results {
    #[schema(value_type = Vec<Told>)]
    results: Vec<Box<RawValue>>,
}

impl Body {
    /// The answers, each of another request; every fault is reported.
    fn parse(self, scope: &Scope, traceparent: &str) -> Result<Vec<Deciding>> {
        let mut faults = Faults::default();
        if !(1..=MOST).contains(&self.decisions.len()) {
            faults.add("/decisions", format!("must be 1 to {MOST} decisions"));
        }
        let mut named = HashSet::new();
        for (index, answer) in self.decisions.iter().enumerate() {
            if !named.insert(answer.request_id) {
                faults.add(format!("/decisions/{index}/request_id"), "is named before");
            }
            if answer.decision == Choice::Reject && answer.reason.is_none() {
                faults.add(format!("/decisions/{index}/reason"), "is required to reject");
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        let deciding = self.decisions.into_iter().map(|answer| Deciding {
            request_id: answer.request_id,
            by: Authority::Operator(scope.clone()),
            outcome: match answer.decision {
                Choice::Approve => Outcome::Approved,
                Choice::Reject => Outcome::Rejected,
            },
            written: None,
            reason: answer.reason.map(Into::into),
            action_digest: Some(answer.action_digest),
            traceparent: Some(traceparent.to_owned()),
        });
        Ok(deciding.collect())
    }
}

/// Answer several requests
///
/// 1 to 100 approvals and rejections of different requests, each decided or refused as if it were sent alone. Repeating
/// the call is safe as it is for each of them.
#[utoipa::path(
    post, path = "/v1/hitl/decisions", tag = "decide", security(("operator" = [])), request_body = Body,
    responses(
        (status = 200, description = "A result of each, in their order", body = Results),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn decide_all(
    Operator(scope): Operator,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBody(body): JsonBody<Body>,
) -> Result<Json<Results>> {
    let answers = body.parse(&scope, &trace.traceparent)?;
    let request_ids: Vec<_> = answers.iter().map(|answer| answer.request_id).collect();
    let (mut results, mut length) = (Vec::with_capacity(answers.len()), 0);
    for (request_id, result) in request_ids.into_iter().zip(state.relay.answer_all(answers).await?) {
        let result = told(request_id, result, length > LONGEST, trace.trace_id())?;
        length += result.get().len();
        results.push(result);
    }
    Ok(Json(Results { results }))
}

/// One result as JSON.
fn told(
    request_id: RequestId,
    result: Result<(Verdict, bool)>,
    shortened: bool,
    trace_id: &str,
) -> Result<Box<RawValue>> {
    let status = |is_new| if is_new { StatusCode::CREATED } else { StatusCode::OK }.as_u16();
    let none = Told { request_id, http_status: 0, decision: None, vote: None, problem: None, shortened: false };
    let told = match result {
        Ok((Verdict::Voted(vote), is_new)) => Told { http_status: status(is_new), vote: Some(vote), ..none },
        Ok((Verdict::Decided(decision), is_new)) => {
            let decision = if shortened { decision.shortened() } else { *decision };
            Told { http_status: status(is_new), decision: Some(decision), shortened, ..none }
        }
        Err(error) => {
            let (error, shortened) = match error {
                Error::AlreadyDecided(decision) if shortened => {
                    (Error::AlreadyDecided(Box::new(decision.shortened())), true)
                }
                error => (error, false),
            };
            if matches!(error, Error::Internal(_)) {
                tracing::error!(error = ?error, request.id = %request_id, "an answer of several failed");
            }
            let path = format!("/v1/hitl/requests/{request_id}/decision");
            let problem = Problem::of(&error, &path, trace_id);
            let http_status = error.answer().status;
            let problem = serde_json::value::to_raw_value(&problem).map_err(Error::internal)?;
            Told { http_status, problem: Some(problem), shortened, ..none }
        }
    };
    serde_json::value::to_raw_value(&told).map_err(Error::internal)
}
