//! Cases of a file of rules: a request, and what must become of it.

use relaytrace_domain::rules::{Effect, Facts, Latitude, Rules};
use relaytrace_domain::{ActionType, AgentId, Answer, Answers, GroupKey, Json, OnBehalfOf, Priority};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A request, and what must become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// In words.
    pub name: String,
    request: Request,
    expect: Expected,
}

/// What is asked; the members of an envelope that rules look at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    agent_id: AgentId,
    action: Action,
    #[serde(default = "usual")]
    priority: Priority,
    group: Option<GroupKey>,
    on_behalf_of: Option<OnBehalfOf>,
    answers: Option<Vec<Answer>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    #[serde(rename = "type")]
    action_type: ActionType,
    #[serde(default)]
    arguments: Map<String, Value>,
}

fn usual() -> Priority {
    Priority::P2
}

/// What rules do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expects {
    /// A rule approves.
    Approve,
    /// A rule rejects.
    Reject,
    /// A rule says who is asked, or one could not be judged.
    Ask,
    /// No rule applies: everyone of the tenant is asked.
    None,
}

/// What is expected: the effect alone, or with more.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expect must be approve, reject, ask or none, or {effect, rule, failed, approvals, groups}"
)]
enum Expected {
    Alone(Expects),
    With(Expectation),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    effect: Expects,
    rule: Option<String>,
    failed: Option<bool>,
    approvals: Option<i32>,
    groups: Option<Vec<String>>,
}

/// What rules say of a request.
#[derive(Debug, Serialize)]
pub struct Said {
    /// What they do.
    pub effect: Expects,
    /// The rule that applies, or the first that could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The rule could not be judged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// Approvals that the rule requires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<i32>,
    /// Groups that the rule asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Case {
    /// What rules say of its request.
    pub fn judge(&self, rules: &Rules) -> Said {
        let Request { agent_id, action, priority, group, on_behalf_of, answers } = &self.request;
        let answers = answers.as_deref().map_or_else(Answers::default, Answers::of);
        let facts = Facts {
            agent_id: agent_id.as_str(),
            action_type: action.action_type.as_str(),
            priority: *priority,
            group: group.as_ref().map(GroupKey::as_str),
            on_behalf_of: on_behalf_of.as_ref().map(|person| person.id.as_str()),
            // As where ALLOW_AUTO_APPROVE is on.
            latitude: Latitude::Approve.where_taken(&answers),
        };
        let arguments = || Json::parse(Value::from(action.arguments.clone()).to_string().as_bytes());
        let Some(applied) = rules.judge(&facts, || arguments().unwrap_or(Json::Null)).applied else {
            return Said { effect: Expects::None, rule: None, failed: false, approvals: None, groups: Vec::new() };
        };
        let ask = applied.effect.ask();
        Said {
            effect: match applied.effect {
                Effect::Approve(_) => Expects::Approve,
                Effect::Reject(_) => Expects::Reject,
                Effect::Ask(_) => Expects::Ask,
            },
            approvals: ask.and_then(|ask| ask.approvals).map(|approvals| approvals.0),
            groups: ask.and_then(|ask| ask.groups.as_ref()).into_iter().flatten().map(ToString::to_string).collect(),
            failed: applied.failed,
            rule: Some(applied.rule.to_string()),
        }
    }

    /// Each expectation that is not met, in words.
    pub fn unmet(&self, said: &Said) -> Vec<String> {
        let alone;
        let expected = match &self.expect {
            Expected::With(expected) => expected,
            Expected::Alone(effect) => {
                alone = Expectation { effect: *effect, rule: None, failed: None, approvals: None, groups: None };
                &alone
            }
        };
        let word = |value: Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let mut unmet = Vec::new();
        let mut compare = |what: &str, wanted: Option<Value>, got: Value| {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != got) {
                let got = if got.is_null() { "none".to_owned() } else { word(got) };
                unmet.push(format!("{what}: expected {}, got {got}", word(wanted)));
            }
        };
        compare("effect", Some(serde_json::json!(expected.effect)), serde_json::json!(said.effect));
        compare("rule", expected.rule.clone().map(Value::from), said.rule.clone().into());
        compare("failed", expected.failed.map(Value::from), said.failed.into());
        compare("approvals", expected.approvals.map(Value::from), said.approvals.into());
        compare("groups", expected.groups.clone().map(Value::from), said.groups.clone().into());
        unmet
    }
}
