//! The narrowest rule about a request, as a start for a wider one (contract, "Trying rules").

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use deserr::Deserr;
use http::header;
use relaytrace_domain::rules::{Facts, Latitude, RulesDocument};
use relaytrace_domain::{Cause, Decision, Error, Json, Outcome, ParseError, Priority, RequestId, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{JsonBody, Problem};
use relaytrace_store::Detail;
use utoipa::ToSchema;

use crate::asked::Asked;

/// Characters of an action's type that a name keeps, so that an id has room beside it.
const KEPT_OF_TYPE: usize = 50;

/// The request that a rule is to be about.
#[derive(Debug, Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct RuleSource {
    #[schema(value_type = String, format = "uuid")]
    request_id: RequestId,
}

/// Suggest a rule
///
/// The rule of the shadow that matches a request's agent, its type of action and every argument by equality, as a member of
/// the document. It would do what a person decided; it would ask where none did. Nothing changes.
#[utoipa::path(
    post, path = "/v1/admin/rules/suggest", tag = "admin", security(("admin" = [])), request_body = RuleSource,
    responses(
        (status = 200, description = "The rule", body = Object),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn suggest(
    Admin(scope): Admin,
    State(state): State<AppState>,
    JsonBody(RuleSource { request_id }): JsonBody<RuleSource>,
) -> Result<Response> {
    let detail = state.store.detail(&scope, request_id).await?.ok_or(Error::NotFound)?;
    let erased = Error::Conflict("what the request asked is erased");
    let envelope = detail.envelope.as_deref().ok_or(erased)?;
    let submitted = detail.chain.first().map(|(entry, _)| entry.as_slice());
    let unreadable = || Error::internal(std::io::Error::other("a stored envelope cannot be read"));
    let asked = Asked::read(envelope, detail.protocol, submitted).ok_or_else(unreadable)?;
    let rule = suggested(&detail, asked.priority, &asked.arguments());
    holds(&rule, &detail, &asked)?;
    let mut text = Vec::new();
    rule.write(&mut text);
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn text(text: impl Into<String>) -> Json {
    Json::String(text.into())
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
}

/// The rule of a request.
fn suggested(detail: &Detail, priority: Priority, arguments: &Json) -> Json {
    let item = &detail.item;
    let name: String = item.action_type.chars().take(KEPT_OF_TYPE).collect();
    object([
        ("name", text(format!("{name} as in {}", item.request_id.0))),
        // It is set before anybody widens it: then it must not approve at once.
        ("mode", text("shadow")),
        (
            "match",
            object([
                ("agents", Json::Array(vec![text(item.agent_id.as_str())])),
                ("action_types", Json::Array(vec![text(&*item.action_type)])),
                ("arguments", Json::Object(equalities(arguments))),
            ]),
        ),
        ("then", effect(detail, priority)),
    ])
}

/// For the pointer of each argument, that it is the same as a whole: what lies in it and was not there differs, too.
fn equalities(arguments: &Json) -> Vec<(String, Json)> {
    let equals = |value: &Json| object([("equals", value.clone())]);
    match arguments {
        Json::Object(members) if !members.is_empty() => {
            let pointer = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            members.iter().map(|(name, value)| (pointer(name), equals(value))).collect()
        }
        _ => vec![(String::new(), equals(arguments))],
    }
}

/// What a person decided of this very action, where a rule may decide so; else people are asked, as many as were needed.
fn effect(detail: &Detail, priority: Priority) -> Json {
    let required = detail.approvals.required;
    let verdict = detail.decision.as_ref().and_then(|decision| verdict(decision, required, priority));
    match verdict {
        Some((verdict, decision)) => {
            let unsaid = || format!("Decided before: {verdict} of request {}", decision.request_id.0);
            let reason = decision.reason.clone().unwrap_or_else(unsaid);
            object([("decide", text(verdict)), ("reason", text(reason))])
        }
        None if required > 1 => object([("ask", object([("approvals", Json::Number(required.to_string()))]))]),
        None => object([("ask", object([]))]),
    }
}

fn verdict(decision: &Decision, required: u8, priority: Priority) -> Option<(&'static str, &Decision)> {
    let by_person = matches!(decision.cause, Cause::Operator | Cause::Admin);
    match decision.outcome {
        Outcome::Rejected if by_person => Some(("reject", decision)),
        // One rule is no second pair of eyes, and none approves a P1.
        Outcome::Approved if by_person && !decision.edited && required == 1 && priority != Priority::P1 => {
            Some(("approve", decision))
        }
        _ => None,
    }
}

/// The rule must be one that may be set, and hold for its own request.
fn holds(rule: &Json, detail: &Detail, asked: &Asked) -> Result<()> {
    let mut list = b"[".to_vec();
    rule.write(&mut list);
    list.push(b']');
    let rules = match RulesDocument::of_list(&list) {
        Ok(rules) => rules,
        Err(ParseError::Invalid(_)) => {
            return Err(Error::Conflict("the arguments are more than a document of rules can hold"));
        }
        Err(malformed) => return Err(Error::internal(Error::from(malformed))),
    };
    let facts = Facts {
        agent_id: detail.item.agent_id.as_str(),
        action_type: &detail.item.action_type,
        priority: asked.priority,
        group: detail.item.group.as_deref(),
        on_behalf_of: None,
        latitude: Latitude::Ask,
    };
    let would = rules.judge(&facts, || asked.arguments()).shadow;
    let is_held = would.is_some_and(|would| !would.failed);
    is_held.then_some(()).ok_or(Error::Conflict("the arguments are none that rules can compare"))
}
