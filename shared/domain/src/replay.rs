//! Replays: deliveries or events that an administrator sends out again (contract, "Administration").

use deserr::{DeserializeError as _, Deserr, ErrorKind, IntoValue, Value, ValuePointerRef, take_cf_content};
use serde::Serialize;

use super::faults::Faults;
use super::ids::{AgentId, RequestId};
use super::json::Json;
use super::stored::stored_as_text;
use super::time::Timestamp;

/// Requests that a scope may name at the most.
const MAX_REQUEST_IDS: usize = 1_000;

/// What goes out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[deserr(rename_all = lowercase)]
pub enum ReplayTarget {
    /// Decisions, to their agents.
    Deliveries,
    /// Events, to the stream.
    Events,
}

stored_as_text!(ReplayTarget { Deliveries = "deliveries", Events = "events" });

/// How far a replay has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It is continued by each sweep until it is finished.
    Running,
    /// Nothing is left to do.
    Finished,
    /// It failed too often and is given up; another order can be made.
    Failed,
}

stored_as_text!(ReplayState { Running = "running", Finished = "finished", Failed = "failed" });

/// Which requests; stored as it is written here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ReplayScope {
    /// These, also where the delivery is acknowledged.
    Requests {
        /// 1 to 1,000; in order, without repetitions. An unknown id matches nothing.
        #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
        request_ids: Vec<RequestId>,
    },
    /// What happened in a period: decisions that are not acknowledged, or events.
    Period {
        /// Of this agent only.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(nullable = false))]
        agent_id: Option<AgentId>,
        /// From this moment on.
        from: Timestamp,
        /// Until before this moment.
        to: Timestamp,
    },
    /// Every open dead letter of a delivery.
    DeadLetters {
        /// `true`.
        dead_letters: bool,
    },
}

impl ReplayScope {
    /// The agent that it is limited to.
    #[must_use]
    pub fn agent_id(&self) -> Option<&AgentId> {
        match self {
            Self::Period { agent_id, .. } => agent_id.as_ref(),
            Self::Requests { .. } | Self::DeadLetters { .. } => None,
        }
    }
}

#[derive(Deserr)]
#[deserr(deny_unknown_fields)]
struct Members {
    #[deserr(default, from(Vec<RequestId>) = Some)]
    request_ids: Option<Vec<RequestId>>,
    #[deserr(default, from(AgentId) = Some)]
    agent_id: Option<AgentId>,
    #[deserr(default, from(Timestamp) = Some)]
    from: Option<Timestamp>,
    #[deserr(default, from(Timestamp) = Some)]
    to: Option<Timestamp>,
    #[deserr(default, from(bool) = Some)]
    dead_letters: Option<bool>,
}

impl Deserr<Faults> for ReplayScope {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, Faults> {
        let members: Members = Deserr::<Faults>::deserialize_from_value(value, at)?;
        let is_period = members.agent_id.is_some() || members.from.is_some() || members.to.is_some();
        let kinds = [members.request_ids.is_some(), is_period, members.dead_letters.is_some()];
        if kinds.iter().filter(|is_given| **is_given).count() != 1 {
            return Err(fault("must be one of request_ids, from and to with or without agent_id, or dead_letters", at));
        }
        match members {
            Members { request_ids: Some(mut request_ids), .. } => {
                if request_ids.is_empty() || request_ids.len() > MAX_REQUEST_IDS {
                    return Err(fault("must have 1 to 1,000 items", at.push_key("request_ids")));
                }
                request_ids.sort_unstable();
                request_ids.dedup();
                Ok(Self::Requests { request_ids })
            }
            Members { dead_letters: Some(is_wanted), .. } if is_wanted => Ok(Self::DeadLetters { dead_letters: true }),
            Members { dead_letters: Some(_), .. } => Err(fault("must be true", at.push_key("dead_letters"))),
            Members { agent_id, from: Some(from), to: Some(to), .. } if from < to => {
                Ok(Self::Period { agent_id, from, to })
            }
            Members { from: Some(_), to: Some(_), .. } => Err(fault("must be later than from", at.push_key("to"))),
            Members { from, to, .. } => {
                let missing = [("from", from.is_none()), ("to", to.is_none())].into_iter().filter(|(_, is)| *is);
                let faults = missing.fold(None, |faults, (field, _)| {
                    Some(take_cf_content(Faults::error::<Json>(faults, ErrorKind::MissingField { field }, at)))
                });
                Err(faults.unwrap_or_default())
            }
        }
    }
}

fn fault(rule: &str, at: ValuePointerRef) -> Faults {
    take_cf_content(Faults::error::<Json>(None, ErrorKind::Unexpected { msg: rule.to_owned() }, at))
}

#[cfg(test)]
mod tests {
    use super::super::json::from_object;
    use super::*;

    #[derive(Debug, Deserr)]
    #[deserr(error = Faults)]
    struct Body {
        scope: ReplayScope,
    }

    fn parse(scope: &str) -> Result<String, Vec<String>> {
        let body = Json::parse(format!(r#"{{"scope":{scope}}}"#).as_bytes()).unwrap();
        match from_object::<Body>(body) {
            Ok(body) => Ok(serde_json::to_string(&body.scope).unwrap()),
            Err(faults) => Err(faults.listed().iter().map(|fault| fault.pointer.clone()).collect()),
        }
    }

    #[test]
    fn a_scope_is_one_of_three() {
        let (one, two) = ("0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17", "0192F5C46A3E7C119D2F2F0C5A8E4B16");
        assert_eq!(
            parse(&format!(r#"{{"request_ids":["{one}","{two}","{one}"]}}"#)).unwrap(),
            format!(r#"{{"request_ids":["{}","{one}"]}}"#, "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b16")
        );
        assert_eq!(parse(r#"{"dead_letters":true}"#).unwrap(), r#"{"dead_letters":true}"#);
        assert_eq!(
            parse(r#"{"from":"2026-11-22T11:00:00Z","to":"2026-11-22T12:00:00Z"}"#).unwrap(),
            r#"{"from":"2026-11-22T11:00:00.000000Z","to":"2026-11-22T12:00:00.000000Z"}"#
        );
    }

    #[test]
    fn a_scope_that_is_none_of_them_or_two_is_refused() {
        let many = vec![r#""0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17""#; 1_001].join(",");
        for (scope, pointers) in [
            ("{}", vec!["/scope"]),
            ("null", vec!["/scope"]),
            (r#"{"dead_letters":true,"agent_id":"a"}"#, vec!["/scope"]),
            (r#"{"dead_letters":false}"#, vec!["/scope/dead_letters"]),
            (r#"{"request_ids":[]}"#, vec!["/scope/request_ids"]),
            (&format!(r#"{{"request_ids":[{many}]}}"#), vec!["/scope/request_ids"]),
            (r#"{"request_ids":["x",7]}"#, vec!["/scope/request_ids/0", "/scope/request_ids/1"]),
            (r#"{"agent_id":"a"}"#, vec!["/scope/from", "/scope/to"]),
            (r#"{"to":"2026-11-22T11:00:00Z"}"#, vec!["/scope/from"]),
            (r#"{"from":"2026-11-22T11:00:00Z","to":"2026-11-22T11:00:00Z"}"#, vec!["/scope/to"]),
            (r#"{"from":null,"surprise":1}"#, vec!["/scope/from", "/scope/surprise"]),
        ] {
            assert_eq!(parse(scope).unwrap_err(), pointers, "{scope}");
        }
    }
}
