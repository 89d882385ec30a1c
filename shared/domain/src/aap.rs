//! What others' protocols ask, in RelayTrace's words (contract, "Bridges").
//!
//! A bridged request is stored as its protocol has it; its action, title and summary are derived here, the same way by
//! whoever stores, shows or verifies it.

use std::borrow::Cow;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValuePointerRef, take_cf_content};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::envelope::{FreeObject, MAX_MEMBER_BYTES};
use super::faults::Faults;
use super::ids::{ActionType, Digest, Title};
use super::json::{Json, ParseError, from_object};
use super::stored::stored_as_text;

/// Longest type of an action, in characters.
const LONGEST_TYPE: usize = 128;
/// Characters that are left of a longer one, before its digest.
const KEPT_OF_TYPE: usize = 96;
/// Longest title, in characters.
const LONGEST_TITLE: usize = 200;
/// Longest summary, in characters.
const LONGEST_SUMMARY: usize = 8_000;
/// The longest time that a body can ask for, in seconds: policies give less.
const LONGEST_SECONDS: u64 = 10 * 366 * 86_400;

/// A protocol that a bridge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Protocol {
    /// The Agent Approval Protocol: the envelope is the body as received.
    #[serde(rename = "aap/1")]
    Aap,
    /// Hooks of Claude Code: the bridge writes an envelope of RelayTrace's own.
    #[serde(rename = "claude-code/1")]
    ClaudeCode,
}

stored_as_text!(Protocol { Aap = "aap/1", ClaudeCode = "claude-code/1" });

impl Protocol {
    /// A stored envelope of this protocol, with the members of RelayTrace's own that people and verifiers read.
    /// `None`: it is none of the protocol's.
    #[must_use]
    pub fn envelope(self, stored: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::ClaudeCode => Some(stored.into()),
            Self::Aap => AapBody::parse(stored).ok().map(|body| body.envelope().into()),
        }
    }
}

/// What a bridge adds to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridged {
    /// Whose words are stored.
    pub protocol: Protocol,
    /// Seconds after which the agent wants no answer any more; no more than the policy gives. `None`: the policy's.
    pub respond_within: Option<i64>,
}

/// A text that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NonEmpty(String);

impl<E: DeserializeError> Deserr<E> for NonEmpty {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        let text = String::deserialize_from_value(value, at)?;
        if text.is_empty() {
            let msg = "must not be empty".to_owned();
            return Err(take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg }, at)));
        }
        Ok(Self(text))
    }
}

/// A time as the protocol writes it: `[1-9][0-9]*(s|m|h|d)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timeout(u64);

impl Timeout {
    fn read(text: &str) -> Option<Self> {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let is_number = digits.starts_with(|first: char| matches!(first, '1'..='9'));
        if !is_number || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let of_unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        // Digits that do not fit are above any time there is.
        let seconds = digits.parse().unwrap_or(u64::MAX).saturating_mul(of_unit);
        Some(Self(seconds.min(LONGEST_SECONDS)))
    }
}

impl<E: DeserializeError> Deserr<E> for Timeout {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        let text = String::deserialize_from_value(value, at)?;
        Self::read(&text).ok_or_else(|| {
            let msg = "must be a whole number above 0 and s, m, h or d, such as 10m".to_owned();
            take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg }, at))
        })
    }
}

/// The members of a body, each of its kind.
#[derive(Deserr)]
#[deserr(deny_unknown_fields)]
struct Members {
    tool: NonEmpty,
    #[deserr(default, from(NonEmpty) = Some)]
    server: Option<NonEmpty>,
    #[expect(dead_code, reason = "its kind is what is looked at")]
    arguments: FreeObject,
    timeout: Timeout,
    #[deserr(default, from(String) = Some)]
    agent_reasoning: Option<String>,
    #[deserr(default, from(FreeObject) = Some)]
    #[expect(dead_code, reason = "its kind is what is looked at")]
    context: Option<FreeObject>,
}

/// What an agent asks by the Agent Approval Protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct AapBody {
    /// Type of the action: `server/tool` or `tool`.
    pub action_type: ActionType,
    /// Seconds that the agent would wait.
    pub timeout_seconds: i64,
    /// Equal for equal bodies: member order ignored, numbers by their literal.
    pub fingerprint: Digest,
    arguments: Json,
    reasoning: Option<String>,
    context: Option<Json>,
}

impl AapBody {
    /// Reads a body; every fault is reported. Numbers may be of any size.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let json = Json::parse_any_number(bytes)?;
        let mut comparable = Vec::with_capacity(bytes.len());
        json.write_comparable(&mut comparable);
        let arguments = json.get("arguments").cloned().map(Json::with_numbers_that_fit);
        let context = json.get("context").cloned();
        let members: Members = from_object(json).map_err(ParseError::Invalid)?;
        let body = Self {
            action_type: action_type_of(members.server.as_ref().map(|server| server.0.as_str()), &members.tool.0),
            timeout_seconds: members.timeout.0.cast_signed(),
            fingerprint: Digest::of(&comparable),
            arguments: arguments.expect("a valid body has arguments"),
            reasoning: members.agent_reasoning,
            context,
        };
        let mut action = Vec::new();
        body.action().write(&mut action);
        if action.len() > MAX_MEMBER_BYTES {
            let mut faults = Faults::default();
            faults.add("/arguments", format!("must be at most {} KiB long", MAX_MEMBER_BYTES / 1024));
            return Err(ParseError::Invalid(faults));
        }
        Ok(body)
    }

    /// What is to be approved. Numbers that I-JSON cannot hold are texts in it.
    #[must_use]
    pub fn action(&self) -> Json {
        Json::Object(vec![
            ("type".into(), Json::String(self.action_type.to_string())),
            ("arguments".into(), self.arguments.clone()),
        ])
    }

    /// Its line in the queue.
    #[must_use]
    pub fn title(&self) -> Title {
        title_of(&self.action_type, &self.arguments)
    }

    /// The members of an envelope that people and verifiers read. What the agent gave to be woken with is not shown.
    fn envelope(&self) -> Vec<u8> {
        let mut members = vec![("action".to_owned(), self.action())];
        if let Some(reasoning) = &self.reasoning {
            members.push(("summary".to_owned(), Json::String(reasoning.chars().take(LONGEST_SUMMARY).collect())));
        }
        if let Some(Json::Object(context)) = &self.context {
            let shown = context.iter().filter(|(name, _)| name != "resume").cloned().collect();
            members.push(("context".to_owned(), Json::Object(shown)));
        }
        let mut out = Vec::new();
        Json::Object(members).write(&mut out);
        out
    }
}

/// The type of a tool's action: what [`ActionType`] does not admit, and `/`, is written `%XX`; one that is too long is its
/// beginning and a part of its digest.
#[must_use]
pub fn action_type_of(server: Option<&str>, tool: &str) -> ActionType {
    const WRITTEN: AsciiSet =
        NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b':').remove(b'%').remove(b'~').remove(b'-');
    let part = |name| utf8_percent_encode(name, &WRITTEN).to_string();
    let text = match server {
        Some(server) => format!("{}/{}", part(server), part(tool)),
        None => part(tool),
    };
    // A type begins with a letter, a digit or `_`.
    let text = if text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_') {
        text
    } else {
        format!("_{text}")
    };
    let text = if text.len() > LONGEST_TYPE {
        let digest = hex::encode(Digest::of(text.as_bytes()).0);
        format!("{}~{}", &text[..KEPT_OF_TYPE], &digest[..16])
    } else {
        text
    };
    text.parse().expect("it has been made admissible")
}

/// A line for the queue: the type, and the first scalar arguments as far as there is room.
#[must_use]
pub fn title_of(action_type: &ActionType, arguments: &Json) -> Title {
    const MOST: usize = 3;
    let scalar = |value: &Json| match value {
        Json::Bool(value) => Some(value.to_string()),
        Json::Number(text) | Json::String(text) => Some(text.clone()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    };
    let mut title = action_type.to_string();
    if let Json::Object(members) = arguments {
        let scalars = members.iter().filter_map(|(name, value)| Some((name, scalar(value)?)));
        for (name, value) in scalars.take(MOST) {
            let line: String = value.split(|c: char| c.is_control() || c == ' ').collect::<Vec<_>>().join(" ");
            title = format!("{title} {name}={line}");
        }
    }
    let title: String = title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    first(title.trim_end(), LONGEST_TITLE).parse().expect("it has been made admissible")
}

/// The first characters of a text; `…` is the last of them where there are more.
fn first(text: &str, most: usize) -> Cow<'_, str> {
    let mut ends = text.char_indices().skip(most - 1).map(|(end, _)| end);
    match (ends.next(), ends.next()) {
        (Some(end), Some(_)) => format!("{}…", &text[..end]).into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> AapBody {
        AapBody::parse(text.as_bytes()).unwrap()
    }

    fn faults(text: &str) -> Vec<String> {
        match AapBody::parse(text.as_bytes()) {
            Err(ParseError::Invalid(faults)) => faults.listed().iter().map(|fault| fault.pointer.clone()).collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn names_of_tools_become_types() {
        let long = "x".repeat(129);
        let cut = format!("{}~{}", "x".repeat(96), &hex::encode(Digest::of(long.as_bytes()).0)[..16]);
        for (server, tool, expected) in [
            (None, "Bash", "Bash"),
            (None, "mcp__github__create_issue", "mcp__github__create_issue"),
            (Some("github"), "create issue", "github/create%20issue"),
            (Some("git/hub"), "a/b", "git%2Fhub/a%2Fb"),
            (None, "50%~x:y.z-1", "50%~x:y.z-1"),
            (None, "é", "_%C3%A9"),
            (None, "-x", "_-x"),
            (None, &long, &cut),
        ] {
            assert_eq!(action_type_of(server, tool).as_str(), expected);
        }
        assert_eq!(action_type_of(None, &"y".repeat(128)).as_str().len(), 128);
    }

    #[test]
    fn a_title_has_the_first_scalar_arguments_and_one_line() {
        let title = |text: &str| body(text).title().to_string();
        let text = r#"{"tool":"t","timeout":"1s","arguments":{"o":{},"a":1.50,"n":null,"b":"x\ny","c":true,"d":"no"}}"#;
        assert_eq!(title(text), "t a=1.50 b=x y c=true");
        let long = title(&format!(r#"{{"tool":"t","timeout":"1s","arguments":{{"a":"{}"}}}}"#, "é".repeat(300)));
        assert_eq!(long.chars().count(), 200);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn times_are_read_and_never_too_long() {
        for (text, seconds) in [("1s", 1), ("10m", 600), ("2h", 7_200), ("3d", 259_200)] {
            assert_eq!(Timeout::read(text), Some(Timeout(seconds)));
        }
        assert_eq!(Timeout::read(&format!("{}d", "9".repeat(50))), Some(Timeout(LONGEST_SECONDS)));
        for bad in ["", "s", "0s", "01m", "1", "1.5h", "-1s", "1w", "1S", "1 s", "+1s", "1é"] {
            assert_eq!(Timeout::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_stored_is_shown_in_our_words_without_what_wakes_the_agent() {
        let stored = r#"{"tool":"t","server":"s","timeout":"10m","arguments":{"n":9007199254740993},
            "agent_reasoning":"why","context":{"call_id":"c","resume":{"thread":"secret"}}}"#;
        let shown = Protocol::Aap.envelope(stored.as_bytes()).unwrap();
        assert_eq!(
            std::str::from_utf8(&shown).unwrap(),
            r#"{"action":{"type":"s/t","arguments":{"n":"9007199254740993"}},"summary":"why","context":{"call_id":"c"}}"#
        );
        assert_eq!(Protocol::Aap.envelope(b"{}"), None);
    }

    #[test]
    fn every_fault_is_found_and_null_is_not_absence() {
        assert_eq!(faults("{}").len(), 3);
        let text = r#"{"tool":"","timeout":"0s","arguments":[],"server":null,"context":1,"x":1}"#;
        let mut found = faults(text);
        found.sort_unstable();
        assert_eq!(found, ["/arguments", "/context", "/server", "/timeout", "/tool", "/x"]);
        let of = |bytes: usize| format!(r#"{{"tool":"t","timeout":"1s","arguments":{{"x":"{}"}}}}"#, "x".repeat(bytes));
        assert!(AapBody::parse(of(MAX_MEMBER_BYTES - 100).as_bytes()).is_ok());
        assert_eq!(faults(&of(MAX_MEMBER_BYTES)), ["/arguments"]);
    }

    #[test]
    fn bodies_are_compared_as_parsed() {
        let of = |text: &str| body(text).fingerprint;
        let one = r#"{"tool":"t","timeout":"1s","arguments":{"a":1,"b":2}}"#;
        assert_eq!(of(one), of(r#" {"arguments":{"b":2,"a":1},"timeout":"1s","tool":"t"}"#));
        assert_ne!(of(one), of(&one.replace("\"1s\"", "\"2s\"")));
    }
}
