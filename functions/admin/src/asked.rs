//! What a stored request asked, as rules look at it.

use relaytrace_domain::rules::{Facts, Latitude};
use relaytrace_domain::{Answer, Answers, Json, Priority, Protocol};
use relaytrace_store::StoredAsk;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The parts of a stored envelope that rules look at, and are not columns.
#[derive(Debug)]
pub struct Asked {
    /// As the agent asked.
    pub priority: Priority,
    /// The answers that the agent can take.
    pub answers: Answers,
    arguments: Box<RawValue>,
}

#[derive(Deserialize)]
struct Envelope {
    priority: Option<Priority>,
    answers: Option<Vec<Answer>>,
    action: Action,
}

#[derive(Deserialize)]
struct Action {
    arguments: Box<RawValue>,
}

/// Members of a `submitted` entry.
#[derive(Deserialize)]
struct Submitted {
    priority: Priority,
    rule: Option<RuleEntry>,
}

#[derive(Deserialize)]
struct RuleEntry {
    asked_priority: Option<Priority>,
}

impl Asked {
    /// Reads an envelope; for a bridge's, which has no priority, also the `submitted` entry. `None`: it cannot be read.
    pub fn read(envelope: &[u8], protocol: Option<Protocol>, submitted: Option<&[u8]>) -> Option<Self> {
        let envelope = match protocol {
            Some(protocol) => protocol.envelope(envelope)?,
            None => envelope.into(),
        };
        let envelope: Envelope = serde_json::from_slice(&envelope).ok()?;
        let submitted: Option<Submitted> = submitted.and_then(|entry| serde_json::from_slice(entry).ok());
        let asked_by_bridge =
            submitted.map(|entry| entry.rule.and_then(|rule| rule.asked_priority).unwrap_or(entry.priority));
        Some(Self {
            priority: asked_by_bridge.or(envelope.priority)?,
            answers: envelope.answers.as_deref().map_or_else(Answers::default, Answers::of),
            arguments: envelope.action.arguments,
        })
    }

    /// Of a stored request; `None`: its envelope is erased, or cannot be read.
    pub fn of(ask: &StoredAsk) -> Option<Self> {
        Self::read(ask.envelope.as_deref()?, ask.protocol, ask.submitted.as_deref())
    }

    /// The arguments of the action; null where they cannot be read.
    pub fn arguments(&self) -> Json {
        Json::parse(self.arguments.get().as_bytes()).unwrap_or(Json::Null)
    }

    /// What rules look at first.
    pub fn facts<'a>(&self, ask: &'a StoredAsk, latitude: Latitude) -> Facts<'a> {
        Facts {
            agent_id: ask.agent_id.as_str(),
            action_type: &ask.action_type,
            priority: self.priority,
            group: ask.group.as_deref(),
            on_behalf_of: ask.on_behalf_of.as_deref(),
            latitude: latitude.where_taken(&self.answers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridged_request_asked_with_the_priority_that_its_entry_names() {
        let envelope =
            br#"{"priority":"P3","action":{"type":"x","arguments":{"n":1.50}},"answers":["approve","edit"]}"#;
        let asked = |submitted: Option<&str>| Asked::read(envelope, None, submitted.map(str::as_bytes)).unwrap();
        assert_eq!(asked(None).priority, Priority::P3);
        assert_eq!(asked(Some(r#"{"priority":"P2"}"#)).priority, Priority::P2);
        let routed = r#"{"priority":"P1","rule":{"version":1,"asked_priority":"P2"}}"#;
        assert_eq!(asked(Some(routed)).priority, Priority::P2);
        assert!(asked(None).answers.has(Answer::Edit));
        assert_eq!(asked(None).arguments().get("n"), Some(&Json::Number("1.50".into())));
        for unreadable in [b"{}".as_slice(), b"", br#"{"priority":"P1","action":{"type":"x"}}"#] {
            assert!(Asked::read(unreadable, None, None).is_none());
        }
        assert!(Asked::read(envelope, Some(Protocol::Aap), None).is_none());
    }
}
