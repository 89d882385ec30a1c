//! A tool call as a question: the action that is approved, what the operator reads, and the key that finds it again.

use aws_lc_rs::digest::{Context, SHA256};
use relaytrace_client::{Action, AnswerKind, Envelope, OnBehalfOf, Priority};
use relaytrace_domain::{Json, ParseError, action_type_of, title_of};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::caller::{CLIENT_CAPABILITIES, CLIENT_INFO, Caller, PROTOCOL_VERSION};
use crate::catalog::Tool;
use crate::message::{Members, Unreadable, quoted};

/// What stands in titles for the value of an argument that is not shown there.
const REDACTED: &str = "[redacted]";
/// Decimal digits that a double always holds.
const EXACT_DIGITS: usize = 15;
/// Bytes of a digest that a key carries.
const KEPT_OF_DIGEST: usize = 16;
/// Members of `_meta` that say how the protocol is spoken (MCP 2026-07-28).
const OF_PROTOCOL: [&str; 4] = [PROTOCOL_VERSION, CLIENT_INFO, CLIENT_CAPABILITIES, "io.modelcontextprotocol/logLevel"];
/// Claude Code's id of a call.
const TOOL_USE: &str = "claudecode/toolUseId";
/// Longest id of a call, in bytes of JSON.
const LONGEST_ID: usize = 514;
/// Longest call that is kept with its question, for a gateway that has lost its memory, in bytes.
const LONGEST_RESUME: usize = 64 << 10;
/// The gateway's member of `resume`.
const RESUME: &str = "mcp";

/// How calls are asked about.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The server's name: calls are of type `name/tool`.
    pub server: Option<String>,
    /// What is wrapped, as [`Way::target`](crate::Way::target) says it.
    pub target: String,
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
    /// Other params of the call: they are no part of the action, and a server may act by them.
    beside: Json,
    /// The arguments are in the action as they are: no number had to become a text.
    is_exact: bool,
    arguments: Json,
    comparable: Vec<u8>,
    /// The params as they were sent, all but those of the one message; equal calls have the same. None: too long.
    params: Option<String>,
}

impl Call {
    /// Reads the params of a call.
    ///
    /// `is_task`: its client waits for it as a task of the gateway's, so `task` says nothing of the call itself.
    pub fn read(asking: &Asking, params: &Members<'_>, is_task: bool) -> Result<Self, Unreadable> {
        let unreadable = |what: &str| Unreadable(format!("params of tools/call: {what}"));
        let tool = params.text("name").ok_or_else(|| unreadable("name is no string"))?;
        let text = params.get("arguments").map_or("{}", |arguments| arguments.get());
        let text = if text == "null" { "{}" } else { text };
        let arguments = shown_exactly("arguments", text)?;
        if !matches!(arguments, Json::Object(_)) {
            return Err(unreadable("arguments are no object"));
        }
        let beside = shown_exactly("params", &beside(params, is_task)?)?;
        let mut comparable = Vec::new();
        arguments.write_comparable(&mut comparable);
        comparable.push(0);
        beside.write_comparable(&mut comparable);
        let exact = with_exact_numbers(arguments.clone());
        let is_exact = exact == arguments;
        let value = value_of(&exact).ok_or_else(|| unreadable("arguments are no JSON"))?;
        let kind = action_type_of(asking.server.as_deref(), &tool).to_string();
        let meta = params.inner("_meta");
        let progress_token = meta.and_then(|meta| meta.get("progressToken").map(|token| token.get().to_owned()));
        let action = Action::new(&kind, value);
        let state = params.text("requestState");
        let sent = as_sent(&tool, &arguments, &beside);
        Ok(Self {
            tool,
            action,
            progress_token,
            state,
            beside: with_exact_numbers(beside),
            is_exact,
            arguments: exact,
            comparable,
            params: Some(sent).filter(|sent| sent.len() <= LONGEST_RESUME),
        })
    }

    /// The envelope, without its ordinal in the key.
    pub fn envelope(&self, asking: &Asking, caller: &Caller, tool: &Tool) -> Envelope {
        let key = self.key(asking, &caller.principal);
        let mut envelope = Envelope::new(&key, asking.priority, &self.title(asking), self.action.clone());
        envelope.summary = Some(self.summary(asking, caller));
        let mut context = Map::from_iter([
            ("tool".to_owned(), json!(self.tool)),
            ("client".to_owned(), caller.shown()),
            ("target".to_owned(), json!(asking.target)),
        ]);
        if let Some(beside) = value_of(&self.beside).filter(|beside| *beside != json!({})) {
            context.insert("params".to_owned(), beside);
        }
        if let Some(server) = &asking.server {
            context.insert("server".to_owned(), json!(server));
        }
        if let Some(annotations) = &tool.annotations {
            context.insert("annotations".to_owned(), annotations.clone());
        }
        envelope.context = Some(json!({"mcp": context}));
        let resume = self.params.as_ref().map(|params| json!({RESUME: {"params": params, "tool": tool.digest}}));
        envelope.resume = resume;
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

    /// Equal calls of one principal have one key: of [`keys_of`] it, the tool, and its params with their numbers as they
    /// were written.
    pub fn key(&self, asking: &Asking, principal: &str) -> String {
        let mut context = Context::new(&SHA256);
        update(&mut context, Some(&self.tool));
        context.update(&self.comparable);
        format!("{}{}", keys_of(asking, principal), kept_of(context))
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

/// What the keys of all calls of one principal to this server begin with, and those of no other.
pub fn keys_of(asking: &Asking, principal: &str) -> String {
    let mut context = Context::new(&SHA256);
    context.update(&[asking.edit.into(), asking.respond.into()]);
    let (server, person) = (asking.server.as_deref(), asking.on_behalf_of.as_deref());
    for part in [Some(principal), Some(&asking.target), server, person] {
        update(&mut context, part);
    }
    format!("mcp:{}-", kept_of(context))
}

fn update(context: &mut Context, part: Option<&str>) {
    // The length of a part that is not there is none of a text.
    context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
    context.update(part.unwrap_or_default().as_bytes());
}

fn kept_of(context: Context) -> String {
    hex::encode(&context.finish().as_ref()[..KEPT_OF_DIGEST])
}

/// The call that a decision is about, from its `resume`: the params (JSON), and the digest of the tool's definition.
pub fn resumed(resume: Option<&Value>) -> Option<(String, String)> {
    let text = |name: &str| resume?[RESUME][name].as_str().map(str::to_owned);
    Some((text("params")?, text("tool")?))
}

/// The params of a call as JSON, with members in byte order of their names and numbers as they were written.
fn as_sent(tool: &str, arguments: &Json, beside: &Json) -> String {
    let own = [("name", Json::String(tool.to_owned())), ("arguments", arguments.clone())];
    let mut members: Vec<_> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if let Json::Object(beside) = beside {
        members.extend(beside.iter().cloned());
    }
    let mut written = Vec::new();
    sorted(Json::Object(members)).write(&mut written);
    String::from_utf8(written).unwrap_or_default()
}

fn sorted(json: Json) -> Json {
    match json {
        Json::Array(items) => Json::Array(items.into_iter().map(sorted).collect()),
        Json::Object(members) => {
            let mut members: Vec<_> = members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            Json::Object(members)
        }
        scalar => scalar,
    }
}

/// Whether `task` says only how long a client would like a task to be kept (MCP 2025-11-25, "Tasks").
fn is_only_ttl(task: &str) -> bool {
    let ttl = |members: &Members<'_>| members.all().all(|(name, value)| name == "ttl" && is_number(value.get()));
    Members::read(task).is_ok_and(|members| ttl(&members))
}

fn is_number(json: &str) -> bool {
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// The params that are neither the tool's name nor its arguments, nor say only which call this is and who calls (JSON).
fn beside(params: &Members<'_>, is_task: bool) -> Result<String, Unreadable> {
    let mut rest = vec![];
    for (name, value) in params.all() {
        match name {
            // What the client says to go on is known to the session, or refused there.
            "name" | "arguments" | "requestState" | "inputResponses" => {}
            "task" if is_task && is_only_ttl(value.get()) => {}
            "_meta" if value.get() == "null" => {}
            "_meta" => {
                let meta = Members::read(value.get())?;
                let unknown: Vec<_> = meta.all().filter(|(name, value)| !is_of_protocol(name, value.get())).collect();
                if !unknown.is_empty() {
                    rest.push(format!("\"_meta\":{}", object(&unknown)));
                }
            }
            _ => rest.push(format!("{}:{}", quoted(name), value.get())),
        }
    }
    Ok(format!("{{{}}}", rest.join(",")))
}

fn object(members: &[(&str, &RawValue)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("{}:{}", quoted(name), value.get())).collect();
    format!("{{{}}}", members.join(","))
}

/// Whether a member of `_meta` is the protocol's own, or an id that is another for each call.
fn is_of_protocol(name: &str, value: &str) -> bool {
    match name {
        "progressToken" => true,
        "traceparent" | "tracestate" | TOOL_USE => {
            value.starts_with('"') && value.len() <= LONGEST_ID && value.bytes().all(|byte| byte.is_ascii_graphic())
        }
        _ => OF_PROTOCOL.contains(&name),
    }
}

/// JSON that nobody can be shown otherwise than a server reads it.
fn shown_exactly(what: &str, text: &str) -> Result<Json, Unreadable> {
    Json::parse_any_number(text.as_bytes()).map_err(|error| match error {
        ParseError::Malformed(detail) => Unreadable(format!("params of tools/call: {detail}")),
        ParseError::Invalid(faults) => {
            let faults = faults.listed().iter().map(|fault| format!("{what}{} {}", fault.pointer, fault.detail));
            let faults = faults.collect::<Vec<_>>().join("; ");
            Unreadable(format!("params of tools/call: nobody can be asked about them: {faults}"))
        }
    })
}

fn value_of(json: &Json) -> Option<Value> {
    let mut written = Vec::new();
    json.write(&mut written);
    serde_json::from_slice(&written).ok()
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
        let target = "mail sha256:00".to_owned();
        Asking { server, target, priority: Priority::P2, on_behalf_of: None, redact, edit: true, respond: true }
    }

    fn call(params: &str) -> Result<Call, Unreadable> {
        Call::read(&asking(), &Members::read(params).unwrap(), false)
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
        let of = |asking: Asking| call(r#"{"name":"t","arguments":{"a":1,"b":[2]}}"#).unwrap().key(&asking, "");
        assert_eq!(first, of(asking()));
        for other in [
            Asking { target: "mail sha256:01".to_owned(), ..asking() },
            Asking { server: None, ..asking() },
            Asking { on_behalf_of: Some("maria".to_owned()), ..asking() },
            Asking { edit: false, ..asking() },
            Asking { respond: false, ..asking() },
        ] {
            assert_ne!(first, of(other.clone()), "{other:?}");
        }
        for wrong in [r#"{"name":"t","arguments":[]}"#, r#"{"name":7}"#, r#"{"name":"t","arguments":{"a":1,"a":2}}"#] {
            assert!(call(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_stands_beside_the_arguments_is_part_of_the_question_and_shown() {
        let of = |rest: &str| {
            let call = call(&format!(r#"{{"name":"t","arguments":{{}}{rest}}}"#)).unwrap();
            let envelope = call.envelope(&asking(), &Caller::default(), &Tool::default());
            (envelope.client_request_key, envelope.context.unwrap()["mcp"].clone())
        };
        let (plain, context) = of("");
        assert_eq!((&context["target"], context.get("params")), (&json!("mail sha256:00"), None));
        for own in [
            r#"{"progressToken":1,"traceparent":"00-1","claudecode/toolUseId":"toolu_1"}"#,
            r#"{"io.modelcontextprotocol/clientInfo":{},"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#,
        ] {
            assert_eq!(of(&format!(",\"_meta\":{own}")).0, plain, "{own}");
        }
        for (rest, shown) in [
            (r#","task":{"ttl":1}"#, json!({"task": {"ttl": 1}})),
            (r#","account":"b""#, json!({"account": "b"})),
            (r#","_meta":{"account":"b","progressToken":1}"#, json!({"_meta": {"account": "b"}})),
            (r#","_meta":{"traceparent":{"account":"b"}}"#, json!({"_meta": {"traceparent": {"account": "b"}}})),
        ] {
            let (key, context) = of(rest);
            assert_ne!(key, plain, "{rest}");
            assert_eq!(context["params"], shown, "{rest}");
        }
        assert!(call(r#"{"name":"t","_meta":{"a":1,"A":2}}"#).is_err());
    }

    #[test]
    fn equal_calls_are_kept_as_the_same_text_and_find_their_key_again() {
        let of = |params: &str| Call::read(&asking(), &Members::read(params).unwrap(), true).unwrap();
        let first = of(r#"{"name":"t","arguments":{"b":[1.50,1e400],"a":{"y":1,"x":2}},"task":{"ttl":1}}"#);
        let other = of(r#"{"_meta":{"progressToken":1},"arguments":{"a":{"x":2,"y":1},"b":[1.50,1e400]},"name":"t"}"#);
        let kept = |call: &Call| call.envelope(&asking(), &Caller::default(), &Tool::default()).resume.unwrap();
        assert_eq!(kept(&first), kept(&other));
        let (params, _) = resumed(Some(&kept(&first))).unwrap();
        assert_eq!(params, r#"{"arguments":{"a":{"x":2,"y":1},"b":[1.50,1e400]},"name":"t"}"#);
        assert_eq!(of(&params).key(&asking(), ""), first.key(&asking(), ""));
        for other in [r#"{"name":"t","task":{"ttl":1,"x":2}}"#, r#"{"name":"t","task":{"ttl":"1"}}"#] {
            assert_ne!(of(other).key(&asking(), ""), of(r#"{"name":"t"}"#).key(&asking(), ""), "{other}");
        }
        let long = format!(r#"{{"name":"t","arguments":{{"a":"{}"}}}}"#, "x".repeat(LONGEST_RESUME));
        assert!(of(&long).envelope(&asking(), &Caller::default(), &Tool::default()).resume.is_none());
    }
}
