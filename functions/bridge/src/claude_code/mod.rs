//! HTTP hooks of Claude Code (contract, "Claude Code").
//!
//! The harness takes every answer but a well-formed 200 for "go on". So each call that is or may be `PreToolUse` is answered
//! 200 with `allow` or `deny`: what fails is an error as everywhere, which [`DIALECT`] tells as a denial.

mod answer;
mod event;

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use relaytrace_domain::{
    Bridged, Cause, ConsumeKey, DecidedEntry, Error, Outcome, Protocol, Reported, RequestId, Result, Submission,
    Written,
};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Agent, Hook};
use relaytrace_service::events::WaitsFor;
use relaytrace_service::http::{InProblems, JsonBytes, MAX_BODY_BYTES, RequestOf, Trace};
use relaytrace_service::wait::{Look, Looking, look_or_wait};
use relaytrace_store::{Caller, Consuming, Delivered, HookCall, Reporting};

use crate::{Attested, acknowledge};
pub use answer::DIALECT;
use answer::{Denial, HookAnswer, allow, deny, nothing};
use event::{Event, ToolCall};

/// Tools that only read, and only on the harness's side: they need nobody's approval where no rule says otherwise.
const READ_ONLY: [&str; 8] =
    ["Read", "Glob", "Grep", "LS", "NotebookRead", "TodoRead", "BashOutput", "ListMcpResourcesTool"];

/// Answer a hook of Claude Code
///
/// `PreToolUse` is always answered 200: `allow`, once a person has approved and the approval was used, or `deny` with a
/// reason for the model. `PostToolUse` and `PostToolUseFailure` report the outcome.
#[utoipa::path(
    post, path = "/v1/hooks/claude-code", tag = "bridge", security(("agent" = [])),
    request_body(content = Object, description = "The event as the harness sends it: hook_event_name, session_id, tool_use_id, \
        tool_name, tool_input and whatever else"),
    responses(
        (status = 200, description = "What the harness is to do", body = HookAnswer,
            headers(("relaytrace-problem" = String, description = "The code of what kept the call from running"))),
    )
)]
pub async fn hook(
    Agent(caller, _): Agent<Hook>,
    State(state): State<AppState>,
    Extension(Trace(trace)): Extension<Trace>,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response> {
    match Event::parse(&bytes)? {
        Event::PreToolUse(call) => before(&state, &caller, &call, &trace.traceparent).await,
        Event::PostToolUse(call) => after(&state, caller, &call, Reported::Succeeded, trace.traceparent.clone()).await,
        Event::PostToolUseFailure(call) => {
            after(&state, caller, &call, Reported::Failed, trace.traceparent.clone()).await
        }
    }
}

/// Says whether a call may run.
async fn before(state: &AppState, caller: &Caller, call: &ToolCall, traceparent: &str) -> Result<Response> {
    let is_read_only = READ_ONLY.contains(&call.tool.as_str());
    // What needs no person is the tenant's rules' to say.
    if is_read_only && !state.store.is_ruled(caller, || submission(caller, call)).await? {
        return Ok(allow(&format!("{} only reads: nobody has to approve it.", call.tool), None));
    }
    let submission = submission(caller, call)?;
    let key = &submission.envelope.client_request_key.clone();
    let hooked = HookCall { caller, key, session_id: &call.session, action_digest: submission.action_digest };
    let (request_id, mut delivered) = ask(state, hooked, submission, traceparent).await?;
    if delivered.is_none() {
        delivered = hold(state, caller, request_id).await?;
    }
    let answer = if let Some(delivered) = delivered {
        answer(state, hooked, call, delivered, traceparent).await?
    } else {
        state.store.note_hook_wait(hooked, request_id).await?;
        deny(&Denial::Pending, &call.tool, request_id)
    };
    Ok((Extension(RequestOf(request_id)), answer).into_response())
}

/// The request that a call is about: the one that it goes on with, or a new one.
async fn ask(
    state: &AppState,
    hooked: HookCall<'_>,
    submission: Submission,
    traceparent: &str,
) -> Result<(RequestId, Option<Delivered>)> {
    let taking = state.taking();
    if let Some(standing) = state.store.continue_hook(hooked, taking.kept_seconds).await? {
        return Ok((standing, None));
    }
    state.authenticator.count_submission(hooked.caller)?;
    let submitted = state.relay.submit(hooked.caller.clone(), submission, taking, traceparent.to_owned()).await?;
    let (request, delivered, _) = submitted;
    Ok((request.request_id, delivered))
}

/// What a call asks, as it is stored.
fn submission(caller: &Caller, call: &ToolCall) -> Result<Submission> {
    let envelope = call.envelope(&caller.agent_id);
    if envelope.len() > MAX_BODY_BYTES {
        return Err(Error::PayloadTooLarge { limit: MAX_BODY_BYTES });
    }
    let submission = Submission::parse(&envelope, None)?;
    let bridged = Some(Bridged { protocol: Protocol::ClaudeCode, respond_within: None });
    // The rest of what the harness sends may differ when it asks again.
    Ok(Submission { fingerprint: submission.action_digest, bridged, ..submission })
}

/// Waits for a decision, as long as a hook is held.
async fn hold(state: &AppState, caller: &Caller, request_id: RequestId) -> Result<Option<Delivered>> {
    let store = &state.store;
    let look = |_| -> Looking<_> {
        Box::pin(async move {
            let found = store.request_of(caller, request_id).await?.1;
            Ok(Look { is_there: found.is_some(), there_in: None, found })
        })
    };
    let longest = Duration::from_secs(state.hooks.max_wait_seconds);
    look_or_wait(state, &caller.agent_id, WaitsFor::Decision(request_id), longest, look).await
}

/// Tells a decision. An approval is used first: what is allowed is what was approved, once.
async fn answer(
    state: &AppState,
    hooked: HookCall<'_>,
    call: &ToolCall,
    delivered: Delivered,
    traceparent: &str,
) -> Result<Response> {
    let (caller, request_id) = (hooked.caller, delivered.request_id);
    let decided = Attested::of(state, caller, delivered)?;
    let denial = match (decided.entry.outcome, decided.entry.cause) {
        (Outcome::Approved, _) => match consume(state, hooked, &decided, traceparent).await {
            Ok(()) => {
                let edited = decided.delivered.written.as_ref().and_then(Written::action);
                return Ok(allow(&approved(&decided.entry), edited.map(|(text, _)| text)));
            }
            Err(error) => match Denial::of_use(&error) {
                Some(denial) => denial,
                None => return Err(error),
            },
        },
        (Outcome::Rejected, Cause::Timeout) => Denial::TimedOut,
        (Outcome::Rejected, Cause::Policy) => Denial::RejectedByRule(decided.entry.reason),
        (Outcome::Rejected, _) => Denial::RejectedByPerson(decided.entry.reason),
        (Outcome::Cancelled, _) => Denial::Cancelled(decided.entry.reason),
        // Not offered, and nothing may run.
        (Outcome::Responded, _) => Denial::RejectedByPerson(None),
    };
    match denial {
        // It may run once the freeze has ended: the next call that asks the same goes on with it.
        Denial::Frozen => state.store.note_hook_wait(hooked, request_id).await?,
        Denial::AlreadyUsed => {}
        _ => acknowledge(state, caller, request_id, traceparent).await?,
    }
    Ok(deny(&denial, &call.tool, request_id))
}

/// Who approved, for the model.
fn approved(entry: &DecidedEntry) -> String {
    let by = entry.actor.name.as_ref().unwrap_or(&entry.actor.id);
    match (entry.cause, &entry.reason) {
        (Cause::Policy, Some(reason)) => format!("Approved by a rule: {reason}"),
        (Cause::Policy, None) => "Approved by a rule.".into(),
        _ => format!("Approved by {by}."),
    }
}

/// Uses an approval, by an attempt of its own each time: a call that is asked about twice runs once.
async fn consume(state: &AppState, hooked: HookCall<'_>, decided: &Attested, traceparent: &str) -> Result<()> {
    let consume_key = format!("hook-{:032x}", rand::random::<u128>());
    let is_edited = decided.delivered.written.is_some();
    let consuming = Consuming {
        caller: hooked.caller.clone(),
        request_id: decided.delivered.request_id,
        consume_key: consume_key.parse::<ConsumeKey>().map_err(Error::internal)?,
        action_digest: if is_edited { decided.entry.action_digest } else { hooked.action_digest },
        is_any: false,
        is_assumed: false,
        traceparent: Some(traceparent.to_owned()),
    };
    state.relay.consume(consuming).await.map(drop)
}

/// Notes what became of a call that was allowed. What nobody was asked about has no outcome.
async fn after(
    state: &AppState,
    caller: Caller,
    call: &ToolCall,
    reported: Reported,
    traceparent: String,
) -> Result<Response> {
    let noted = async {
        let Some(request_id) = state.store.request_of_key(&caller, &call.key).await? else { return Ok(()) };
        let Some((reported, note)) = call.outcome(reported) else { return Ok(()) };
        let traceparent = Some(traceparent);
        let reporting =
            Reporting { caller, request_id, state: reported, note, evidence: None, is_any: false, traceparent };
        match state.relay.report_outcome(reporting).await {
            Ok(_) | Err(Error::NotConsumed) => Ok(()),
            Err(error) => Err(error),
        }
    };
    match noted.await {
        Ok(()) => Ok(nothing()),
        // The tool has run: there is nothing to deny.
        Err(error) => Ok((Extension(InProblems), Error::into_response(error)).into_response()),
    }
}
