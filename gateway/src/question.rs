//! A tool call as a question: the action that is approved, what the operator reads, and the key that finds it again.

use aws_lc_rs::digest::{Context, SHA256};
use relaytrace_client::{Action, AnswerKind, Envelope, OnBehalfOf, Priority};
use relaytrace_domain::{Json, ParseError, action_type_of, title_of};
use serde_json::{Map, Value, json};

use crate::caller::Caller;
use crate::catalog::Tool;
use crate::message::{Members, Unreadable};

/// What stands in titles for the value of an argument that is not shown there.
const REDACTED: &str = "[redacted]";
/// Decimal digits that a double always holds.
const EXACT_DIGITS: usize = 15;
/// Bytes of a digest that a key carries.
const KEPT_OF_DIGEST: usize = 16;

/// How calls are asked about.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The server's name: calls are of type `name/tool`.
    pub server: Option<String>,
    /// How urgent they are.
    pub priority: Priority,
    /// The person for whom the client acts.
    pub on_behalf_of: Option<String>,
    /// Arguments whose values titles do not show. The action always has them.
    pub redact: Vec<String>,
    /// An operator may change the arguments.
    pub edit: bool,
    /// An operator may answer instead.
    pub respond: bool,
}

/// `tools/call`, read strictly.
#[derive(Debug)]
pub struct Call {
    /// The tool.
    pub tool: String,
    /// What is approved: type and arguments.
    pub action: Action,
    /// `_meta.progressToken`, as JSON.
    pub progress_token: Option<String>,
    /// `requestState`: what the server, or this gateway, gave the client when it asked it for input.
    pub state: Option<String>,
    /// The arguments are in the action as they are: no number had to become a text.
    is_exact: bool,
    arguments: Json,
    comparable: Vec<u8>,
}

impl Call {
    /// Reads the params of a call.
    pub fn read(asking: &Asking, params: &Members<'_>) -> Result<Self, Unreadable> {
        let unreadable = |what: &str| Unreadable(format!("params of tools/call: {what}"));
        let tool = params.text("name").ok_or_else(|| unreadable("name is no string"))?;
        let text = params.get("arguments").map_or("{}", |arguments| arguments.get());
        let text = if text == "null" { "{}" } else { text };
        let arguments = Json::parse_any_number(text.as_bytes()).map_err(|error| match error {
            ParseError::Malformed(detail) => unreadable(&detail),
            ParseError::Invalid(faults) => {
                let faults = faults.listed().iter().map(|fault| format!("arguments{} {}", fault.pointer, fault.detail));
                unreadable(&format!("nobody can be asked about them: {}", faults.collect::<Vec<_>>().join("; ")))
            }
        })?;
        if !matches!(arguments, Json::Object(_)) {
            return Err(unreadable("arguments are no object"));
        }
        let mut comparable = Vec::new();
        arguments.write_comparable(&mut comparable);
        let exact = with_exact_numbers(arguments.clone());
        let is_exact = exact == arguments;
        let mut written = Vec::new();
        exact.write(&mut written);
        let value: Value = serde_json::from_slice(&written).map_err(|error| unreadable(&error.to_string()))?;
        let kind = action_type_of(asking.server.as_deref(), &tool).to_string();
        let meta = params.inner("_meta");
        let progress_token = meta.and_then(|meta| meta.get("progressToken").map(|token| token.get().to_owned()));
        let action = Action::new(&kind, value);
        let state = params.text("requestState");
        Ok(Self { tool, action, progress_token, state, is_exact, arguments: exact, comparable })
    }

    /// The envelope, without its ordinal in the key.
    pub fn envelope(&self, asking: &Asking, caller: &Caller, tool: &Tool) -> Envelope {
        let key = self.key(asking, &caller.principal);
        let mut envelope = Envelope::new(&key, asking.priority, &self.title(asking), self.action.clone());
        envelope.summary = Some(self.summary(asking, caller));
        let mut context =
            Map::from_iter([("tool".to_owned(), json!(self.tool)), ("client".to_owned(), caller.shown())]);
        if let Some(server) = &asking.server {
            context.insert("server".to_owned(), json!(server));
        }
        if let Some(annotations) = &tool.annotations {
            context.insert("annotations".to_owned(), annotations.clone());
        }
        envelope.context = Some(json!({"mcp": context}));
        envelope.on_behalf_of = asking.on_behalf_of.clone().map(|id| OnBehalfOf { id, name: None });
        if asking.edit && self.is_exact {
            envelope.answers.push(AnswerKind::Edit);
        }
        // A structured result cannot be made of a text.
        if asking.respond && !tool.is_structured {
            envelope.answers.push(AnswerKind::Respond);
        }
        if !envelope.answers.is_empty() {
            envelope.answers.extend([AnswerKind::Approve, AnswerKind::Reject]);
        }
        envelope
    }

    /// Equal calls of one principal have one key: of the server, the tool, and the arguments with their numbers as they
    /// were written.
    pub fn key(&self, asking: &Asking, principal: &str) -> String {
        let mut context = Context::new(&SHA256);
        for part in [principal, asking.server.as_deref().unwrap_or_default(), &self.tool] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.update(&self.comparable);
        let digest = context.finish();
        digest.as_ref().iter().take(KEPT_OF_DIGEST).fold("mcp:".to_owned(), |key, byte| format!("{key}{byte:02x}"))
    }

    fn title(&self, asking: &Asking) -> String {
        let kind = action_type_of(asking.server.as_deref(), &self.tool);
        title_of(&kind, &redacted(self.arguments.clone(), &asking.redact)).to_string()
    }

    fn summary(&self, asking: &Asking, caller: &Caller) -> String {
        let plain = |text: &str| text.chars().filter(|c| !c.is_control() && *c != '`').take(200).collect::<String>();
        let server = asking.server.as_deref().map(|server| format!(" of the MCP server `{}`", plain(server)));
        let client = if caller.name.is_empty() { "an MCP client" } else { &caller.name };
        format!("`{}` wants to call the tool `{}`{}.", plain(client), plain(&self.tool), server.unwrap_or_default())
    }
}

/// Numbers that a double does not hold to the last digit are texts in an action: what is approved is what was sent.
fn with_exact_numbers(json: Json) -> Json {
    match json.with_numbers_that_fit() {
        Json::Number(literal) if !is_exact(&literal) => Json::String(literal),
        Json::Array(items) => Json::Array(items.into_iter().map(with_exact_numbers).collect()),
        Json::Object(members) => {
            Json::Object(members.into_iter().map(|(name, value)| (name, with_exact_numbers(value))).collect())
        }
        other => other,
    }
}

/// Whether a number that is in range keeps all its digits as a double.
fn is_exact(literal: &str) -> bool {
    let mantissa = literal.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_matches('0').len();
    digits <= EXACT_DIGITS
        || literal.parse::<i64>().is_ok()
        || literal.parse::<f64>().is_ok_and(|value| value.to_string() == literal)
}

/// The arguments without the values of these names, at any depth.
fn redacted(json: Json, names: &[String]) -> Json {
    match json {
        Json::Array(items) => Json::Array(items.into_iter().map(|item| redacted(item, names)).collect()),
        Json::Object(members) => Json::Object(
            members
                .into_iter()
                .map(|(name, value)| {
                    let is_hidden = names.contains(&name);
                    (name, if is_hidden { Json::String(REDACTED.to_owned()) } else { redacted(value, names) })
                })
                .collect(),
        ),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking() -> Asking {
        let (server, redact) = (Some("mail".to_owned()), vec!["password".to_owned()]);
        Asking { server, priority: Priority::P2, on_behalf_of: None, redact, edit: true, respond: true }
    }

    fn call(params: &str) -> Result<Call, Unreadable> {
        Call::read(&asking(), &Members::read(params).unwrap())
    }

    #[test]
    fn the_action_is_the_tool_and_its_arguments_and_a_title_hides_what_it_is_told_to() {
        let call = call(r#"{"name":"send it","arguments":{"to":"a@b","password":"hunter2"}}"#).unwrap();
        let envelope = call.envelope(&asking(), &Caller::default(), &Tool::default());
        assert_eq!(envelope.action.kind, "mail/send%20it");
        assert_eq!(envelope.action.arguments, json!({"to": "a@b", "password": "hunter2"}));
        assert_eq!(envelope.title, "mail/send%20it to=a@b password=[redacted]");
        assert!(
            !envelope.summary.unwrap().contains("hunter2")
                && !envelope.context.unwrap().to_string().contains("hunter2")
        );
    }

    #[test]
    fn numbers_that_a_double_does_not_hold_are_texts_in_the_action() {
        let written = r#"{"a":9007199254740993,"b":0.1234567890123456789,"c":0.30000000000000004,"d":1.50,"e":1e400}"#;
        let call = call(&format!(r#"{{"name":"t","arguments":{written}}}"#)).unwrap();
        let expected = json!({"a": "9007199254740993", "b": "0.1234567890123456789", "c": 0.300_000_000_000_000_04, "d": 1.5, "e": "1e400"});
        assert_eq!(call.action.arguments, expected);
        assert!(
            call.envelope(&asking(), &Caller::default(), &Tool::default())
                .answers
                .iter()
                .all(|answer| *answer != AnswerKind::Edit)
        );
    }

    #[test]
    fn equal_calls_have_one_key_and_others_another() {
        let key = |params: &str, principal: &str| {
            let caller = Caller { principal: principal.to_owned(), ..Caller::default() };
            call(params).unwrap().envelope(&asking(), &caller, &Tool::default()).client_request_key
        };
        let first = key(r#"{"name":"t","arguments":{"a":1,"b":[2]}}"#, "");
        assert_eq!(first, key(r#"{"arguments":{"b":[2],"a":1},"name":"t","_meta":{"progressToken":3}}"#, ""));
        assert_eq!(key(r#"{"name":"t"}"#, ""), key(r#"{"name":"t","arguments":null}"#, ""));
        for (params, principal) in [
            (r#"{"name":"t","arguments":{"a":1,"b":[2]}}"#, "other"),
            (r#"{"name":"u","arguments":{"a":1,"b":[2]}}"#, ""),
            (r#"{"name":"t","arguments":{"a":"1","b":[2]}}"#, ""),
        ] {
            assert_ne!(first, key(params, principal), "{params}");
        }
        for wrong in [r#"{"name":"t","arguments":[]}"#, r#"{"name":7}"#, r#"{"name":"t","arguments":{"a":1,"a":2}}"#] {
            assert!(call(wrong).is_err(), "{wrong}");
        }
    }
}
