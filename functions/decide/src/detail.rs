//! One request in full.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use relaytrace_domain::rules::RuleOf;
use relaytrace_domain::{
    ActedFor, Answer, Answers, Approvals, ClientRequestKey, Decision, DeliveryState, Digest, Error, Failure, Offer,
    OnBehalfOf, Permit, RequestId, Result, Timestamp, Vote, chain_genesis,
};
use relaytrace_service::AppState;
use relaytrace_service::auth::Operator;
use relaytrace_service::http::{Path, Problem};
use relaytrace_store::{Delivered, DeliverySeen, Detail};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::conditional::json;
use crate::queue::{DeliveryError, Item};

/// Where the decision is on its way.
#[derive(Debug, Serialize, ToSchema)]
struct Delivery {
    state: DeliveryState,
    attempt: i32,
    /// When the agent was last handed it.
    delivered_at: Option<Timestamp>,
    /// What the agent said of the latest attempt: accepted, retry or failed.
    result: Option<String>,
    /// The agent's report, where the delivery is a dead letter.
    error: Option<DeliveryError>,
}

impl Delivery {
    fn of(seen: DeliverySeen, lease_seconds: f64) -> Self {
        let lease = Duration::try_from_secs_f64(lease_seconds).unwrap_or_default();
        let delivered_at = seen.lease_expires_at.map(|end| Timestamp(end - lease));
        let error = seen.error.map(DeliveryError::from);
        Self { state: seen.state, attempt: seen.attempt, delivered_at, result: seen.result, error }
    }
}

/// The chain without its bytes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChainSummary)]
struct Chain {
    length: usize,
    head: Digest,
    /// Each with its seq, kind, at, actor, hash and what happened.
    entries: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// One request in full.
#[derive(Debug, Serialize, ToSchema)]
struct RequestDetail<'a> {
    #[serde(flatten)]
    item: Item,
    client_request_key: ClientRequestKey,
    /// Markdown.
    summary: Option<String>,
    /// The exact action, as it was sent; null where it was erased.
    #[schema(value_type = Option<Object>)]
    action: Option<&'a RawValue>,
    action_digest: Digest,
    #[schema(value_type = Option<Object>)]
    context: Option<&'a RawValue>,
    /// Whether summary, action and context were erased. The digests stay.
    erased: bool,
    /// What the agent can take for an answer.
    #[schema(value_type = Vec<Answer>)]
    answers: Answers,
    /// JSON Schema of edited arguments.
    #[schema(value_type = Option<Object>)]
    edit_schema: Option<&'a RawValue>,
    /// JSON Schema of a response.
    #[schema(value_type = Option<Object>)]
    respond_schema: Option<&'a RawValue>,
    /// The person for whom the agent acts.
    on_behalf_of: Option<OnBehalfOf>,
    /// The rule that says who is asked, or the first that could not be judged; null: none.
    rule: Option<RuleOf>,
    decision: Option<Decision>,
    /// Approvals of operators that decide it, and those that are there.
    approvals: Approvals,
    /// The approvals, the oldest first; the one that decided is the last.
    votes: Vec<Vote>,
    delivery: Option<Delivery>,
    /// How long the approval may be used.
    permit: Option<Permit>,
    agent_last_polled_at: Option<Timestamp>,
    chain: Chain,
    /// The decision's receipt.
    receipt: Option<String>,
    you: You,
}

/// What the caller may do with the request.
#[derive(Debug, Serialize, ToSchema)]
struct You {
    may: Vec<Answer>,
    /// The code of the problem that an answer would meet; null where none would.
    why_not: Option<&'static str>,
    /// Operators for whom the caller may decide it, by a delegation: the member `for` of an answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    may_act_for: Vec<ActedFor>,
}

impl You {
    fn of(detail: &Detail, answers: &Answers) -> Self {
        let approves_not = detail.not_approved_for.and_then(Failure::answer).map(|answer| answer.code);
        let is_kept_from = |answer: &Answer| approves_not.is_some() && matches!(answer, Answer::Approve | Answer::Edit);
        let may_not = |why| Self { may: Vec::new(), why_not: Some(why), may_act_for: Vec::new() };
        match (&detail.decision, detail.is_over) {
            (Some(_), _) => may_not("already-decided"),
            (None, true) => may_not("expired"),
            (None, false) if !detail.may_decide => {
                Self { may_act_for: detail.may_act_for.clone(), ..may_not("not-assigned") }
            }
            (None, false) => {
                // What several approve is what was asked.
                let is_possible = |answer: &Answer| {
                    !detail.approvals.are_several() || matches!(answer, Answer::Approve | Answer::Reject)
                };
                let may = answers.iter().filter(|answer| is_possible(answer) && !is_kept_from(answer));
                Self { may: may.collect(), why_not: approves_not, may_act_for: detail.may_act_for.clone() }
            }
        }
    }
}

/// The members of an envelope that an operator sees; `resume` is not among them.
#[derive(Default, Deserialize)]
struct Shown<'a> {
    summary: Option<String>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    on_behalf_of: Option<OnBehalfOf>,
}

/// See one request
#[utoipa::path(
    get, path = "/v1/hitl/requests/{request_id}", tag = "decide", security(("operator" = [])),
    params(("request_id" = String, Path)),
    responses(
        (status = 200, description = "The request", body = RequestDetail, headers(("etag" = String))),
        (status = 304, description = "It is as the ETag given says"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn detail(
    Operator(scope): Operator,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response> {
    let detail = state.store.detail(&scope, request_id).await?.ok_or(Error::NotFound)?;
    // A decision that nobody attests is shown, and has no receipt.
    let receipt = receipt(&state, request_id, &detail).unwrap_or_else(|error| {
        tracing::error!(error = ?error, request.id = %request_id, "a decision gets no receipt");
        None
    });
    let envelope = match (detail.envelope.as_deref(), detail.protocol) {
        (Some(stored), Some(protocol)) => {
            let wrong = || Error::internal(std::io::Error::other("a stored body is none of its protocol's"));
            Some(protocol.envelope(stored).ok_or_else(wrong)?)
        }
        (stored, _) => stored.map(Cow::Borrowed),
    };
    let shown = envelope.as_deref().map(serde_json::from_slice::<Shown>).transpose();
    let shown = shown.map_err(Error::internal)?.unwrap_or_default();
    let offer = envelope.as_deref().map(serde_json::from_slice::<Offer>).transpose();
    let offer = offer.map_err(Error::internal)?.unwrap_or_default();
    let answers = offer.answers();
    let body = RequestDetail {
        you: You::of(&detail, &answers),
        answers,
        edit_schema: offer.edit_schema,
        respond_schema: offer.respond_schema,
        on_behalf_of: shown.on_behalf_of,
        rule: detail.rule.clone(),
        item: detail.item.into(),
        client_request_key: detail.client_request_key,
        summary: shown.summary,
        action: shown.action,
        action_digest: detail.action_digest,
        context: shown.context,
        erased: detail.envelope.is_none(),
        decision: detail.decision,
        approvals: detail.approvals,
        votes: detail.votes,
        delivery: detail.delivery.map(|seen| Delivery::of(seen, state.store.rules().lease_seconds)),
        permit: detail.permit,
        agent_last_polled_at: detail.agent_last_polled_at.map(Timestamp),
        chain: chain(&detail.chain)?,
        receipt,
    };
    json(&headers, &body)
}

fn chain(entries: &[(Vec<u8>, Digest)]) -> Result<Chain> {
    let head = entries.last().map(|(_, hash)| *hash);
    let head = head.ok_or_else(|| Error::internal(std::io::Error::other("a request has no chain")))?;
    let entries = entries.iter().map(|(bytes, hash)| {
        let mut entry: serde_json::Map<_, _> = serde_json::from_slice(bytes).map_err(Error::internal)?;
        entry.remove("request_id");
        entry.insert("hash".into(), hash.to_string().into());
        Ok(entry)
    });
    let entries: Vec<_> = entries.collect::<Result<_>>()?;
    Ok(Chain { length: entries.len(), head, entries })
}

/// The receipt of a decided request.
fn receipt(state: &AppState, request_id: RequestId, detail: &Detail) -> Result<Option<String>> {
    let is_decided = |entry: &&(usize, &(Vec<u8>, Digest))| {
        #[derive(Deserialize)]
        struct Kind {
            kind: String,
        }
        serde_json::from_slice::<Kind>(&entry.1.0).is_ok_and(|entry| entry.kind == "decided")
    };
    let entries: Vec<_> = detail.chain.iter().enumerate().collect();
    let Some((index, (entry, hash))) = entries.iter().find(is_decided) else { return Ok(None) };
    let prev_hash = index.checked_sub(1).map_or_else(|| chain_genesis(request_id), |before| detail.chain[before].1);
    let (submitted, submitted_hash) = detail.chain.first().cloned().ok_or(Error::NotFound)?;
    let delivered = Delivered {
        request_id,
        client_request_key: detail.client_request_key.clone(),
        action_type: detail.item.action_type.clone(),
        entry: entry.clone(),
        prev_hash,
        hash: *hash,
        submitted,
        submitted_hash,
        is_from_before: detail.is_from_before,
        resume: None,
        permit: detail.permit,
        written: detail.written.clone(),
        attempt: 0,
        replayed: false,
        lease: None,
    };
    state.receipt_keys.receipt(&delivered.stored_decision(), &detail.item.agent_id).map(|(_, receipt)| Some(receipt))
}
