//! Channels: what people are told, and of which requests (contract, "Channels").

use deserr::{
    DeserializeError, Deserr, ErrorKind, IntoValue, Sequence as _, Value, ValueKind, ValuePointerRef, take_cf_content,
};
use serde::{Deserialize, Serialize};

use super::answers::without_case;
use super::faults::Faults;
use super::ids::{ActionPattern, ActionType, AgentId, GroupKey, PersonId, Priority};
use super::stored::stored_as_text;

/// Values that one member of a match names at the most.
const MOST_VALUES: usize = 100;

/// How a channel reaches people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[deserr(rename_all = lowercase)]
pub enum ChannelKind {
    /// A signed HTTP call (Standard Webhooks).
    Webhook,
    /// An incoming webhook of Slack.
    Slack,
    /// A mail in plain text.
    Email,
}

stored_as_text!(ChannelKind { Webhook = "webhook", Slack = "slack", Email = "email" });

/// What a channel tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// An agent asks.
    Requested,
    /// Nobody has answered, and its policy's share of the time is over.
    Escalated,
    /// Somebody has decided.
    Decided,
    /// Nobody has decided in time.
    TimedOut,
    /// Nobody has said what became of a used approval.
    OutcomeUnknown,
    /// Its decision could not be delivered to the agent.
    DeadLettered,
}

stored_as_text!(Notice {
    Requested = "requested",
    Escalated = "escalated",
    Decided = "decided",
    TimedOut = "timed_out",
    OutcomeUnknown = "outcome_unknown",
    DeadLettered = "dead_lettered",
});

impl Notice {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Requested, Self::Escalated, Self::Decided, Self::TimedOut, Self::OutcomeUnknown, Self::DeadLettered];

    /// The kind of the event in the outbox that it is told after.
    #[must_use]
    pub const fn event_kind(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Escalated => "escalated",
            Self::Decided | Self::TimedOut => "decided",
            Self::OutcomeUnknown => "outcome",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

impl<E: DeserializeError> Deserr<E> for Notice {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        let text = text_of(value, at)?;
        Self::ALL.into_iter().find(|notice| notice.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg: format!("must be one of {names}") }, at))
        })
    }
}

/// For whom the agent of a request acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBehalf {
    /// For anybody.
    Present,
    /// For nobody.
    Absent,
    /// For one of these persons, without case.
    #[serde(untagged)]
    Of(Vec<String>),
}

impl<E: DeserializeError> Deserr<E> for OnBehalf {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        match value {
            Value::String(text) if text == "present" => Ok(Self::Present),
            Value::String(text) if text == "absent" => Ok(Self::Absent),
            Value::Sequence(items) => {
                let mut persons = Vec::new();
                for (index, item) in items.into_iter().enumerate() {
                    let person: PersonId =
                        Deserr::<E>::deserialize_from_value(item.into_value(), at.push_index(index))?;
                    persons.push(without_case(person.as_str()));
                }
                Ok(Self::Of(persons))
            }
            _ => {
                let msg = "must be present, absent or a list of persons".to_owned();
                Err(take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg }, at)))
            }
        }
    }
}

fn text_of<V: IntoValue, E: DeserializeError>(value: Value<V>, at: ValuePointerRef) -> Result<String, E> {
    match value {
        Value::String(text) => Ok(text),
        actual => {
            let accepted = &[ValueKind::String];
            Err(take_cf_content(E::error(None, ErrorKind::IncorrectValueKind { actual, accepted }, at)))
        }
    }
}

/// Which requests a channel tells of: all that is named must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
pub struct ChannelMatch {
    /// Of these agents.
    #[deserr(default, from(Vec<AgentId>) = Some)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub agents: Option<Vec<AgentId>>,
    /// With an action of these types: whole, or a beginning and `*`.
    #[deserr(default, from(Vec<ActionPattern>) = Some)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub action_types: Option<Vec<ActionPattern>>,
    /// Of these priorities.
    #[deserr(default, from(Vec<Priority>) = Some)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub priorities: Option<Vec<Priority>>,
    /// Of these groups of their agents.
    #[deserr(default, from(Vec<GroupKey>) = Some)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub groups: Option<Vec<GroupKey>>,
    /// `present`, `absent`, or the persons for whom the agent acts.
    #[deserr(default, from(OnBehalf) = Some)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object, nullable = false))]
    pub on_behalf_of: Option<OnBehalf>,
}

/// What a match looks at.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'a> {
    /// Who asks.
    pub agent_id: &'a AgentId,
    /// What for.
    pub action_type: &'a ActionType,
    /// How urgent it is.
    pub priority: Priority,
    /// The agent's group of it.
    pub group: Option<&'a str>,
    /// For whom, without case.
    pub on_behalf_of: Option<&'a str>,
}

impl ChannelMatch {
    /// Adds what is wrong with it, at `pointer`.
    pub fn check(&self, faults: &mut Faults, pointer: &str) {
        let on_behalf = match &self.on_behalf_of {
            Some(OnBehalf::Of(persons)) => Some(persons.len()),
            _ => None,
        };
        let lengths = [
            ("agents", self.agents.as_ref().map(Vec::len)),
            ("action_types", self.action_types.as_ref().map(Vec::len)),
            ("priorities", self.priorities.as_ref().map(Vec::len)),
            ("groups", self.groups.as_ref().map(Vec::len)),
            ("on_behalf_of", on_behalf),
        ];
        for (member, length) in lengths {
            if length.is_some_and(|length| !(1..=MOST_VALUES).contains(&length)) {
                faults.add(format!("{pointer}/{member}"), format!("must name 1 to {MOST_VALUES}"));
            }
        }
    }

    /// Whether all that it names holds.
    #[must_use]
    pub fn holds(&self, request: Matched<'_>) -> bool {
        self.agents.as_ref().is_none_or(|named| named.contains(request.agent_id))
            && self.action_types.as_ref().is_none_or(|named| named.iter().any(|of| of.covers(request.action_type)))
            && self.priorities.as_ref().is_none_or(|named| named.contains(&request.priority))
            && self.groups.as_ref().is_none_or(|named| named.iter().any(|group| Some(group.as_str()) == request.group))
            && match (&self.on_behalf_of, request.on_behalf_of) {
                (None, _) | (Some(OnBehalf::Present), Some(_)) | (Some(OnBehalf::Absent), None) => true,
                (Some(OnBehalf::Of(persons)), Some(person)) => persons.iter().any(|named| named == person),
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::{Json, from_object};
    use super::*;

    fn parsed(text: &str) -> Result<ChannelMatch, Vec<String>> {
        let read: Result<ChannelMatch, Faults> = from_object(Json::parse(text.as_bytes()).unwrap());
        read.map_err(|faults| faults.listed().iter().map(|fault| fault.pointer.clone()).collect())
    }

    fn holds(text: &str, on_behalf_of: Option<&str>) -> bool {
        let (agent_id, action_type) = ("billing".parse().unwrap(), "refund.create".parse().unwrap());
        let request = Matched {
            agent_id: &agent_id,
            action_type: &action_type,
            priority: Priority::P1,
            group: Some("turn-7"),
            on_behalf_of,
        };
        parsed(text).unwrap().holds(request)
    }

    #[test]
    fn all_that_is_named_must_hold() {
        for (text, expected) in [
            ("{}", true),
            (r#"{"agents":["billing","other"]}"#, true),
            (r#"{"agents":["other"]}"#, false),
            (r#"{"action_types":["refund.create"]}"#, true),
            (r#"{"action_types":["refund.*"]}"#, true),
            (r#"{"action_types":["*"]}"#, true),
            (r#"{"action_types":["refund"]}"#, false),
            (r#"{"action_types":["refund.create.*"]}"#, false),
            (r#"{"priorities":["P2","P3"]}"#, false),
            (r#"{"priorities":["P1"]}"#, true),
            (r#"{"groups":["turn-7"]}"#, true),
            (r#"{"groups":["turn-8"]}"#, false),
            (r#"{"on_behalf_of":"absent"}"#, true),
            (r#"{"on_behalf_of":"present"}"#, false),
            (r#"{"on_behalf_of":["maria"]}"#, false),
            (r#"{"agents":["billing"],"priorities":["P3"]}"#, false),
        ] {
            assert_eq!(holds(text, None), expected, "{text}");
        }
        assert!(holds(r#"{"on_behalf_of":["Maria"]}"#, Some("maria")));
        assert!(holds(r#"{"on_behalf_of":"present"}"#, Some("maria")));
        assert!(!holds(r#"{"on_behalf_of":"absent"}"#, Some("maria")));
    }

    #[test]
    fn what_is_no_match_is_refused_at_its_place() {
        for (text, pointers) in [
            (r#"{"arguments":{}}"#, vec!["/arguments"]),
            (r#"{"agents":["NO"]}"#, vec!["/agents/0"]),
            (r#"{"action_types":["a*b"]}"#, vec!["/action_types/0"]),
            (r#"{"action_types":[""]}"#, vec!["/action_types/0"]),
            (r#"{"priorities":["P4"]}"#, vec!["/priorities/0"]),
            (r#"{"on_behalf_of":"somebody"}"#, vec!["/on_behalf_of"]),
            (r#"{"on_behalf_of":[7]}"#, vec!["/on_behalf_of/0"]),
        ] {
            assert_eq!(parsed(text).unwrap_err(), pointers, "{text}");
        }
        let mut faults = Faults::default();
        parsed(r#"{"agents":[]}"#).unwrap().check(&mut faults, "/match");
        assert_eq!(faults.listed()[0].pointer, "/match/agents");
    }

    #[test]
    fn it_is_stored_as_it_is_written() {
        for text in [
            "{}",
            r#"{"on_behalf_of":"present"}"#,
            r#"{"agents":["a"],"action_types":["x.*"],"priorities":["P1"],"on_behalf_of":["maria"]}"#,
        ] {
            let read = parsed(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
            assert_eq!(serde_json::from_str::<ChannelMatch>(text).unwrap(), read);
        }
    }
}
