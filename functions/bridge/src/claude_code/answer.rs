//! What a harness is told, and the model behind it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use relaytrace_domain::{Error, Faults, JsonText, RequestId, Timestamp};
use relaytrace_service::http::{Dialect, Told};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Failures of this route are denials.
pub const DIALECT: Dialect = Dialect { prefix: "/v1/hooks/claude-code", tell, fails_open: true };

/// Names the code of what kept the call from running.
const PROBLEM: HeaderName = HeaderName::from_static("relaytrace-problem");

/// Faults of a body that the model is told.
const NAMED: usize = 3;

/// What the harness is to do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookAnswer<'a> {
    #[serde(borrow)]
    hook_specific_output: Output<'a>,
}

/// The part of it that is about this event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    hook_event_name: &'static str,
    /// allow or deny.
    permission_decision: &'static str,
    /// For the model where it is denied.
    permission_decision_reason: &'a str,
    /// The input to run with, where a person has edited it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    updated_input: Option<&'a RawValue>,
}

impl<'a> HookAnswer<'a> {
    fn of(decision: &'static str, reason: &'a str) -> Self {
        let output = Output {
            hook_event_name: "PreToolUse",
            permission_decision: decision,
            permission_decision_reason: reason,
            updated_input: None,
        };
        Self { hook_specific_output: output }
    }
}

/// Why a call does not run. Each has a text of its own: a model takes a timeout for a person's no where they read alike.
#[derive(Clone, Debug)]
pub enum Denial {
    /// Nobody has answered yet.
    Pending,
    /// Nobody has answered in time.
    TimedOut,
    /// A person said no.
    RejectedByPerson(Option<String>),
    /// A rule said no.
    RejectedByRule(Option<String>),
    /// The question was withdrawn.
    Cancelled(Option<String>),
    /// It ran, or was about to, before.
    AlreadyUsed,
    /// It was approved, and nobody used that in time.
    TooLate(Timestamp),
    /// It was approved, and that was revoked.
    Revoked,
    /// It was approved, and an administrator has frozen it for now.
    Frozen,
}

impl Denial {
    /// Why an approval could not be used; `None`: for another reason than its own state.
    pub fn of_use(error: &Error) -> Option<Self> {
        match error {
            Error::AlreadyConsumed => Some(Self::AlreadyUsed),
            Error::PermitExpired { expires_at } => Some(Self::TooLate(*expires_at)),
            Error::PermitRevoked => Some(Self::Revoked),
            Error::Frozen => Some(Self::Frozen),
            _ => None,
        }
    }

    /// The code of the problem that it is, where it is one.
    fn problem(&self) -> Option<&'static str> {
        match self {
            Self::AlreadyUsed => Some("already-consumed"),
            Self::TooLate(_) => Some("permit-expired"),
            Self::Revoked => Some("permit-revoked"),
            Self::Frozen => Some("frozen"),
            _ => None,
        }
    }

    fn text(&self, tool: &str) -> String {
        let said = |reason: &Option<String>| reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        match self {
            Self::Pending => format!(
                "Still waiting: no person has answered yet whether {tool} may run. It was not run. To go on waiting, call \
                 the tool again with exactly the same input; do not reach for the same by other means."
            ),
            Self::TimedOut => format!(
                "Timed out: no person answered in time whether {tool} may run. It was not run. This is nobody's no: ask \
                 the user how to go on."
            ),
            Self::RejectedByPerson(reason) => format!(
                "Rejected by a person{}. {tool} was not run. Do not try the same again, by this or other means.",
                said(reason)
            ),
            Self::RejectedByRule(reason) => format!(
                "Rejected by a rule{}. {tool} was not run, and no person was asked. The same call will be rejected again.",
                said(reason)
            ),
            Self::Cancelled(reason) => format!(
                "Cancelled: the question whether {tool} may run was withdrawn before anybody answered{}. It was not run.",
                said(reason)
            ),
            Self::AlreadyUsed => format!(
                "Already used: this call of {tool} was approved, and that approval was used before. It was not run again. \
                 If it still needs to happen, call the tool anew."
            ),
            Self::TooLate(expires_at) => format!(
                "Approved, but too late: the approval of {tool} could be used until {expires_at}. It was not run. If it \
                 still needs to happen, call the tool again to ask anew."
            ),
            Self::Revoked => format!(
                "Approved, but revoked: an administrator has stopped {tool} since. It was not run. Ask the user how to go \
                 on."
            ),
            Self::Frozen => format!(
                "Approved, but frozen for now: an administrator lets nobody run {tool} at the moment. It was not run. \
                 Later, call the tool again with exactly the same input."
            ),
        }
    }
}

/// Lets a call run, with the arguments of an edited action where there is one.
pub fn allow(reason: &str, edited: Option<&JsonText>) -> Response {
    #[derive(Deserialize)]
    struct Edited<'a> {
        #[serde(borrow)]
        arguments: &'a RawValue,
    }
    let mut answer = HookAnswer::of("allow", reason);
    if let Some(action) = edited {
        match serde_json::from_str::<Edited<'_>>(action.as_str()) {
            Ok(edited) => answer.hook_specific_output.updated_input = Some(edited.arguments),
            Err(error) => return Error::internal(error).into_response(),
        }
    }
    Json(answer).into_response()
}

/// Keeps a call from running.
pub fn deny(denial: &Denial, tool: &str, request_id: RequestId) -> Response {
    let text = format!("{} (RelayTrace request {request_id})", denial.text(tool));
    let mut response = Json(HookAnswer::of("deny", &text)).into_response();
    if let Some(code) = denial.problem() {
        response.headers_mut().insert(PROBLEM, HeaderValue::from_static(code));
    }
    response
}

/// There is nothing to say to an event.
pub fn nothing() -> Response {
    Json(serde_json::Map::new()).into_response()
}

/// A failure: what could not be asked is denied.
fn tell(error: &Error, _trace_id: &str) -> Option<Told> {
    let what = match error {
        // A hook is a POST.
        Error::MethodNotAllowed => return None,
        Error::Unauthenticated(_) => "its key is missing or not accepted; whoever runs this agent must look at it",
        Error::Forbidden(_) => "its key lacks the scope hook; whoever runs this agent must look at it",
        Error::RateLimited { .. } => "this agent has too many open questions; wait until some are answered",
        Error::Unavailable(_) | Error::Unsettled | Error::Internal(_) => {
            "the service cannot be reached for the moment; try again later"
        }
        Error::PayloadTooLarge { .. } => "the call is too long to be shown to a person; make it shorter",
        Error::IdempotencyKeyReused => "the harness has used one id for two different calls",
        _ => "the call could not be read",
    };
    let named = |faults: &Faults| {
        let named = faults.listed().iter().take(NAMED).map(|fault| format!("{} {}", fault.pointer, fault.detail));
        format!(" ({})", named.collect::<Vec<_>>().join("; "))
    };
    let detail = if let Error::Invalid(faults) = error { named(faults) } else { String::new() };
    let text = format!("No person could be asked: {what}{detail}. The tool was not run.");
    let body = serde_json::to_vec(&HookAnswer::of("deny", &text)).unwrap_or_default();
    let headers = HeaderMap::from_iter([(PROBLEM, HeaderValue::from_static(error.answer().code))]);
    Some(Told { status: StatusCode::OK, content_type: "application/json", headers, body })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_reads_differently_from_its_first_words_on() {
        let reason = || Some("not today".to_owned());
        let denials = [
            Denial::Pending,
            Denial::TimedOut,
            Denial::RejectedByPerson(reason()),
            Denial::RejectedByRule(reason()),
            Denial::Cancelled(reason()),
            Denial::AlreadyUsed,
        ];
        let texts: Vec<_> = denials.iter().map(|denial| denial.text("Bash")).collect();
        let beginnings: BTreeSet<_> = texts.iter().map(|text| &text[..15]).collect();
        assert_eq!(beginnings.len(), 6);
        assert!(texts.iter().all(|text| text.contains("not run")), "{texts:?}");
        assert_eq!(texts.iter().filter(|text| text.contains(": not today")).count(), 3);
    }

    #[test]
    fn every_failure_denies_and_names_its_code() {
        for error in [
            Error::Unauthenticated("x"),
            Error::Forbidden("x"),
            Error::NotFound,
            Error::MalformedJson("x".into()),
            Error::PayloadTooLarge { limit: 1 },
            Error::UnsupportedMediaType,
            Error::invalid("/tool_name", "is required"),
            Error::RateLimited { cap: "x".into() },
            Error::Unavailable(anyhow_of("x")),
            Error::internal(anyhow_of("x")),
        ] {
            let told = tell(&error, "").unwrap();
            let body: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
            assert_eq!(told.status, StatusCode::OK);
            assert_eq!(body["hookSpecificOutput"]["permissionDecision"], "deny");
            assert_eq!(told.headers[PROBLEM], error.answer().code);
        }
        assert!(tell(&Error::MethodNotAllowed, "").is_none());
    }

    fn anyhow_of(text: &'static str) -> anyhow::Error {
        anyhow::anyhow!(text)
    }
}
