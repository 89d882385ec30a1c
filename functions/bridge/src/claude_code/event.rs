//! What a harness sends. Members that are not known are kept for the operator: harnesses gain some with each release.

use relaytrace_domain::{
    AgentId, ClientRequestKey, Digest, Error, Faults, Json, Note, Reported, Result, action_type_of, title_of,
};

/// Longest session that is kept as it is, in characters.
const LONGEST_SESSION: usize = 64;
/// Longest note of an outcome, in characters.
const LONGEST_NOTE: usize = 2_000;
/// What is no context: it is asked, names the event, or is a path on the harness's machine.
const NOT_SHOWN: [&str; 5] = ["hook_event_name", "tool_name", "tool_input", "tool_response", "transcript_path"];

/// An event of a harness's session.
#[derive(Debug)]
pub enum Event {
    /// A tool is about to run.
    PreToolUse(ToolCall),
    /// It has run.
    PostToolUse(ToolCall),
    /// It has failed.
    PostToolUseFailure(ToolCall),
}

/// A call of a tool.
#[derive(Debug)]
pub struct ToolCall {
    /// The tool's name.
    pub tool: String,
    /// The session, as far as it is kept.
    pub session: String,
    /// Names the call: session and tool use.
    pub key: ClientRequestKey,
    input: Json,
    /// What else was sent.
    rest: Vec<(String, Json)>,
    /// Whether numbers of the input became texts: an edited input would have texts where numbers were.
    is_changed: bool,
    response: Option<Json>,
}

impl Event {
    /// Reads a body; every fault is reported.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let json = Json::parse_any_number(bytes)?;
        let Json::Object(members) = json else { return Err(Error::invalid("", "must be an object")) };
        let mut faults = Faults::default();
        let name = text(&members, "hook_event_name", &mut faults);
        let event = match name.as_str() {
            "PreToolUse" => Self::PreToolUse,
            "PostToolUse" => Self::PostToolUse,
            "PostToolUseFailure" => Self::PostToolUseFailure,
            _ => {
                faults.add("/hook_event_name", "must be PreToolUse, PostToolUse or PostToolUseFailure");
                return Err(faults.into());
            }
        };
        Ok(event(ToolCall::read(&members, faults)?))
    }
}

/// A member that is a text.
fn text(members: &[(String, Json)], name: &str, faults: &mut Faults) -> String {
    match members.iter().find(|(known, _)| known == name) {
        Some((_, Json::String(text))) if !text.is_empty() => text.clone(),
        _ => {
            faults.add_at(name, "must be a text that is not empty");
            String::new()
        }
    }
}

impl ToolCall {
    fn read(members: &[(String, Json)], mut faults: Faults) -> Result<Self> {
        let tool = text(members, "tool_name", &mut faults);
        let session = text(members, "session_id", &mut faults);
        let tool_use = text(members, "tool_use_id", &mut faults);
        let of = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let sent = of("tool_input").filter(|input| matches!(input, Json::Object(_))).cloned();
        if sent.is_none() {
            faults.add("/tool_input", "must be an object");
        }
        let (Some(sent), true) = (sent, faults.is_empty()) else { return Err(faults.into()) };
        let input = sent.clone().with_numbers_that_fit();
        let response = of("tool_response").cloned();
        let rest = members.iter().filter(|(name, _)| !NOT_SHOWN.contains(&name.as_str()));
        let rest = rest.map(|(name, value)| (name.clone(), value.clone().with_numbers_that_fit())).collect();
        Ok(Self {
            key: key(&session, &tool_use),
            session: short(&session),
            is_changed: input != sent,
            tool,
            input,
            rest,
            response,
        })
    }

    /// The envelope that asks a person.
    pub fn envelope(&self, agent_id: &AgentId) -> Vec<u8> {
        let string = |text: &str| Json::String(text.to_owned());
        let action_type = action_type_of(None, &self.tool);
        let title = title_of(&action_type, &self.input);
        let action = vec![("type".into(), string(action_type.as_str())), ("arguments".into(), self.input.clone())];
        let answers: &[&str] = if self.is_changed { &["approve", "reject"] } else { &["approve", "reject", "edit"] };
        let members = [
            ("envelope_version", string("1")),
            ("agent_id", string(agent_id.as_str())),
            ("client_request_key", string(self.key.as_str())),
            ("priority", string("P2")),
            ("title", string(title.as_str())),
            ("action", Json::Object(action)),
            ("context", Json::Object(self.rest.clone())),
            ("answers", Json::Array(answers.iter().map(|answer| string(answer)).collect())),
        ];
        let members = members.map(|(name, value)| (name.to_owned(), value)).into();
        let mut out = Vec::new();
        Json::Object(members).write(&mut out);
        out
    }

    /// How a run ended, by the event and by what the tool itself says of it. `None`: it was interrupted, and nobody knows.
    pub fn outcome(&self, reported: Reported) -> Option<(Reported, Option<Note>)> {
        let is_so = |name: &str| self.rest.iter().any(|(known, value)| known == name && *value == Json::Bool(true));
        if is_so("is_interrupt") {
            return None;
        }
        let says = |name: &str| self.response.as_ref().and_then(|response| response.get(name));
        let has_failed = ["isError", "is_error"].iter().any(|name| says(name) == Some(&Json::Bool(true)));
        let reported = if has_failed { Reported::Failed } else { reported };
        let error = self.rest.iter().find(|(name, _)| name == "error").map(|(_, value)| value);
        let note = match error {
            Some(Json::String(error)) if reported == Reported::Failed => {
                error.chars().take(LONGEST_NOTE).collect::<String>().parse().ok()
            }
            _ => None,
        };
        Some((reported, note))
    }
}

/// The key of a tool use: session and tool use, readable where they are plain.
fn key(session: &str, tool_use: &str) -> ClientRequestKey {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let plain = format!("{session}:{tool_use}");
    if is_plain(session)
        && is_plain(tool_use)
        && let Ok(key) = plain.parse()
    {
        return key;
    }
    // With a length, so that no two pairs are written alike.
    let text = format!("{}:{plain}", session.len());
    Digest::of(text.as_bytes()).to_string().parse().expect("a digest is a key")
}

/// A session as it is stored beside requests.
fn short(session: &str) -> String {
    if session.len() <= LONGEST_SESSION { session.to_owned() } else { Digest::of(session.as_bytes()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ToolCall {
        match Event::parse(text.as_bytes()).unwrap() {
            Event::PreToolUse(call) | Event::PostToolUse(call) | Event::PostToolUseFailure(call) => call,
        }
    }

    const CALL: &str = r#"{"hook_event_name":"PreToolUse","session_id":"s","tool_use_id":"t","tool_name":"Bash",
        "tool_input":{"command":"ls"},"cwd":"/tmp","transcript_path":"/home/x","mcp_server":{"name":"g"},"new":1}"#;

    #[test]
    fn a_call_becomes_an_envelope_that_shows_what_else_was_sent() {
        let envelope = String::from_utf8(read(CALL).envelope(&"a".parse().unwrap())).unwrap();
        assert_eq!(
            envelope,
            concat!(
                r#"{"envelope_version":"1","agent_id":"a","client_request_key":"s:t","priority":"P2","#,
                r#""title":"Bash command=ls","action":{"type":"Bash","arguments":{"command":"ls"}},"#,
                r#""context":{"session_id":"s","tool_use_id":"t","cwd":"/tmp","mcp_server":{"name":"g"},"new":1},"#,
                r#""answers":["approve","reject","edit"]}"#
            )
        );
    }

    #[test]
    fn an_input_whose_numbers_do_not_fit_is_not_edited() {
        let call = read(&CALL.replace(r#""ls""#, "9007199254740993"));
        let envelope = String::from_utf8(call.envelope(&"a".parse().unwrap())).unwrap();
        assert!(envelope.contains(r#""command":"9007199254740993""#) && !envelope.contains("edit"), "{envelope}");
    }

    #[test]
    fn keys_are_distinct_whatever_is_in_them() {
        assert_eq!(key("s-1", "toolu_2").as_str(), "s-1:toolu_2");
        assert_ne!(key("a:b", "c"), key("a", "b:c"));
        assert!(key(&"s".repeat(100), &"t".repeat(100)).as_str().starts_with("sha256:"));
        assert!(key("ü", "t").as_str().starts_with("sha256:"));
    }

    #[test]
    fn every_fault_of_a_body_is_found() {
        let faults = |text: &str| match Event::parse(text.as_bytes()) {
            Err(Error::Invalid(faults)) => faults.listed().len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(faults("[]"), 1);
        assert_eq!(faults("{}"), 2);
        assert_eq!(faults(r#"{"hook_event_name":"PreToolUse"}"#), 4);
        assert_eq!(
            faults(
                r#"{"hook_event_name":"PreToolUse","tool_name":1,"session_id":null,"tool_use_id":"","tool_input":[]}"#
            ),
            4
        );
    }

    #[test]
    fn a_run_has_failed_where_either_says_so() {
        let call = read(&CALL.replace(r#""new":1"#, r#""error":"no such file","tool_response":{"is_error":true}"#));
        assert_eq!(call.outcome(Reported::Succeeded).unwrap().0, Reported::Failed);
        assert_eq!(call.outcome(Reported::Failed).unwrap().1.unwrap().as_str(), "no such file");
        assert_eq!(read(CALL).outcome(Reported::Succeeded), Some((Reported::Succeeded, None)));
        let interrupted = read(&CALL.replace(r#""new":1"#, r#""is_interrupt":true"#));
        assert_eq!(interrupted.outcome(Reported::Failed), None);
    }
}
