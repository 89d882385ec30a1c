//! What a client is told in place of a result: texts for the model, and members for programs.

use relaytrace_client::{Error, Why};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::caller::Caller;

/// Prefix of the gateway's members of `_meta`.
const PREFIX: &str = "relaytrace";

/// Names the task that a message belongs to, in `_meta` (MCP 2025-11-25, "Tasks").
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// A question that a text is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The request.
    pub request_id: Uuid,
    /// Its page, for people.
    pub link: &'a str,
}

/// The result of a call that did not run because of this.
pub fn refusal(error: &Error, link: impl Fn(Uuid) -> String, caller: &Caller) -> String {
    let Error::NotApproved(not_approved) = error else {
        let text = format!(
            "Not run: no valid decision could be obtained ({error}). This says nothing about whether it is allowed."
        );
        return result(&text, "unobtainable", None, true, caller);
    };
    let link = link(not_approved.request_id);
    let about = About { request_id: not_approved.request_id, link: &link };
    let (status, advice) = match &not_approved.why {
        Why::StillPending { .. } => return pending(about, caller),
        Why::Responded(value) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let text = format!("Not run: a person answered in its place. The answer:\n{text}");
            return result(&text, "responded", Some(about), false, caller);
        }
        Why::Rejected { .. } => ("rejected", "Do not try to reach the same in another way."),
        Why::RejectedByRule { .. } => {
            ("rejected_by_rule", "No person looked at it; the same call will be refused again.")
        }
        Why::TimedOut => ("timed_out", "Calling it again asks anew."),
        Why::Cancelled { .. } => ("cancelled", "Calling it again asks anew."),
        Why::AlreadyUsed => ("already_used", ""),
        Why::PermitExpired => ("expired", "Calling it again asks anew."),
        Why::PermitRevoked(_) => ("revoked", ""),
        Why::Frozen => ("frozen", "Call it again later with the same arguments."),
        Why::UnknownOutcome => ("unknown", ""),
    };
    // What used the approval before may have been this very call, by another process or in another session.
    let begin = if matches!(not_approved.why, Why::AlreadyUsed) { "Not run again" } else { "Not run" };
    let text = format!("{begin}: {}. {advice}", not_approved.why);
    result(text.trim_end(), status, Some(about), true, caller)
}

/// The result of a call whose question is still open when its client can wait no longer.
fn pending(about: About<'_>, caller: &Caller) -> String {
    let text = format!(
        "Not run yet: a person has to approve this call and has not decided so far ({}). Call the tool again with exactly \
         the same arguments to go on waiting; nothing is asked twice. Do not try to reach the same in another way.",
        about.link
    );
    result(&text, "pending", Some(about), true, caller)
}

/// The result of a call that asks the client to show a person where to decide.
pub fn input_required(about: About<'_>) -> String {
    json!({
        "resultType": "input_required",
        "inputRequests": {PREFIX: {"method": "elicitation/create", "params": link_elicitation(about, None)}},
        "requestState": state_of(about.request_id),
        "_meta": meta("pending", Some(about)),
    })
    .to_string()
}

/// `requestState` of a call that was answered with [`input_required`]. It is a pointer and no authority: the relay is asked
/// again by the call's own key.
fn state_of(request_id: Uuid) -> String {
    format!("{PREFIX}:{request_id}")
}

/// Whether a `requestState` is one of ours.
pub fn is_own_state(state: &str) -> bool {
    state.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with(':'))
}

/// The text of such a result.
pub fn text_of(result: &str) -> String {
    let result: Value = serde_json::from_str(result).unwrap_or_default();
    result["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

/// Params of `elicitation/create` that has a person open the page of a request, for a call or for a task.
pub fn link_elicitation(about: About<'_>, task: Option<&str>) -> Value {
    let message = "A person has to approve this tool call. Open the page to look at it and decide.";
    let mut params = json!({"mode": "url", "message": message, "url": about.link, "elicitationId": about.request_id});
    if let Some(task) = task {
        params["_meta"] = json!({RELATED_TASK: {"taskId": task}});
    }
    params
}

/// The result of an approved call that is not kept with its question. `execution`: how far its use is (contract,
/// "Permits").
pub fn not_kept(about: About<'_>, execution: &str, caller: &Caller) -> String {
    let text = match execution {
        "waiting" => {
            "Not run so far: the call was approved, and is not kept with its question. Calling the tool again with exactly \
             the same arguments uses this approval."
        }
        "unused" => "Not run: the approval was not used in time. Calling the tool again asks anew.",
        _ => {
            "The call was approved, and may have run: this gateway does not know how it ended. Do not call the tool again \
             before you have found out."
        }
    };
    result(&format!("{text} The record: {}", about.link), "unobtainable", Some(about), true, caller)
}

/// The result of an approved call whose tool is another one than that which was asked about.
pub fn changed(request_id: Uuid, link: &str, caller: &Caller) -> String {
    let text =
        "Not run: the server changed the definition of this tool after it was asked about. Calling it again asks anew.";
    result(text, "changed", Some(About { request_id, link }), true, caller)
}

/// Tells the client that the page that it showed is done with.
pub fn elicitation_complete(about: About<'_>) -> String {
    let id = about.request_id;
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{{"elicitationId":"{id}"}}}}"#)
}

/// A line of progress while a call is held. Its number stays far below any that the server will send for the same token:
/// it may only grow.
pub fn progress(token: &str, ticks: u32, about: About<'_>) -> String {
    let (message, progress) = (json!(format!("Waiting for a person: {}", about.link)), f64::from(ticks) * 1e-6);
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{progress},"message":{message}}}}}"#
    )
}

fn meta(status: &str, about: Option<About<'_>>) -> Value {
    let mut meta = json!({(format!("{PREFIX}/status")): status});
    if let Some(About { request_id, link }) = about {
        meta[format!("{PREFIX}/request_id")] = json!(request_id);
        meta[format!("{PREFIX}/link")] = json!(link);
    }
    meta
}

/// An error, where it is one, so that a client does not look for the structured content that the tool promises.
fn result(text: &str, status: &str, about: Option<About<'_>>, is_error: bool, caller: &Caller) -> String {
    let mut result = json!({
        "content": [{"type": "text", "text": text}],
        "isError": is_error,
        "_meta": meta(status, about),
    });
    if caller.is_stateless {
        result["resultType"] = json!("complete");
    }
    result.to_string()
}
