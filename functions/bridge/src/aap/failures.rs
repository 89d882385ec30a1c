//! Failures as the Agent Approval Protocol tells them.

use http::{HeaderMap, StatusCode};
use relaytrace_domain::{Error, Faults};
use relaytrace_reach::UNCALLABLE;
use relaytrace_service::http::{Dialect, Told};
use serde::Serialize;
use utoipa::ToSchema;

/// All routes of the protocol.
pub const DIALECT: Dialect = Dialect { prefix: "/aap/v1/", tell, fails_open: false };

/// Where the header of a call's key is at fault.
pub const KEY: &str = "/idempotency-key";
/// What is said where it is missing.
pub const KEY_IS_MISSING: &str = "is required";

/// Where an instance's receiver is at fault that cannot be called or did not answer with the challenge.
pub const RECEIVER: &str = "/delivery/url";

/// Faults that a message names.
const NAMED: usize = 5;

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct AapError<'a> {
    error: Described<'a>,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct Described<'a> {
    /// What kind of error.
    r#type: &'static str,
    /// What programs compare.
    code: &'static str,
    /// What people read.
    message: String,
    /// Names this call in the service's log; it is no request's id.
    request_id: &'a str,
}

#[expect(clippy::unnecessary_wraps, reason = "a dialect may leave a failure to problem documents")]
fn tell(error: &Error, trace_id: &str) -> Option<Told> {
    let (status, kind, code) = classify(error);
    let described = Described { r#type: kind, code, message: message(error), request_id: trace_id };
    let body = serde_json::to_vec(&AapError { error: described }).unwrap_or_default();
    Some(Told { status, content_type: "application/json", headers: HeaderMap::new(), body })
}

fn classify(error: &Error) -> (StatusCode, &'static str, &'static str) {
    let conflict = |code| (StatusCode::CONFLICT, "conflict", code);
    let invalid = |code| (StatusCode::BAD_REQUEST, "invalid_request", code);
    match error {
        Error::Invalid(faults) if names(faults, KEY, KEY_IS_MISSING) => invalid("missing_idempotency_key"),
        Error::Invalid(faults) if names(faults, RECEIVER, UNCALLABLE) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", "webhook_verification_failed")
        }
        Error::Invalid(_) | Error::MalformedJson(_) | Error::PayloadTooLarge { .. } | Error::UnsupportedMediaType => {
            invalid("invalid_request")
        }
        Error::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "authentication_error", "unauthenticated"),
        Error::Forbidden(_) | Error::OwnRequest | Error::NotAssigned => {
            (StatusCode::FORBIDDEN, "permission_error", "forbidden")
        }
        Error::NotFound => (StatusCode::NOT_FOUND, "not_found", "not_found"),
        Error::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "method_not_allowed"),
        Error::AlreadyDecided(_)
        | Error::AlreadyVoted
        | Error::Expired { .. }
        | Error::Conflict(_)
        | Error::VersionRequired
        | Error::VersionChanged
        | Error::StaleDelivery => conflict("already_terminal"),
        Error::NotApproved | Error::ActionMismatch => conflict("not_approved"),
        Error::AlreadyConsumed => conflict("already_consumed"),
        Error::PermitExpired { .. } => conflict("approval_expired"),
        Error::PermitRevoked => conflict("approval_revoked"),
        Error::Frozen => conflict("frozen"),
        Error::NotConsumed => conflict("not_consumed"),
        Error::OutcomeConflict => conflict("outcome_conflict"),
        Error::IdempotencyKeyReused => conflict("idempotency_conflict"),
        Error::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "rate_limited"),
        Error::Unavailable(_) | Error::Unsettled => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "unavailable"),
        Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal"),
    }
}

fn names(faults: &Faults, pointer: &str, detail: &str) -> bool {
    faults.listed().iter().any(|fault| fault.pointer == pointer && fault.detail == detail)
}

/// In words, the first faults by their names.
fn message(error: &Error) -> String {
    let Error::Invalid(faults) = error else { return error.to_string() };
    let named = faults.listed().iter().take(NAMED).map(|fault| format!("{} {}", fault.pointer, fault.detail));
    named.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_some_faults_and_is_bounded() {
        let mut faults = Faults::default();
        for number in 0..50 {
            faults.add(format!("/{number}"), "is wrong");
        }
        let message = message(&Error::from(faults));
        assert_eq!(message.matches("is wrong").count(), NAMED);
    }

    #[test]
    fn only_a_missing_key_has_a_code_of_its_own() {
        let code = |error: &Error| classify(error).2;
        assert_eq!(code(&Error::invalid(KEY, KEY_IS_MISSING)), "missing_idempotency_key");
        assert_eq!(code(&Error::invalid(KEY, "must be sent once")), "invalid_request");
        assert_eq!(code(&Error::invalid("/tool", KEY_IS_MISSING)), "invalid_request");
        assert_eq!(classify(&Error::invalid(RECEIVER, UNCALLABLE)).0, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(code(&Error::invalid(RECEIVER, "is required")), "invalid_request");
    }
}
