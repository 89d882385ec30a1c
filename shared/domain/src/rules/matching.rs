//! Whether a rule holds of what is asked.

use super::compare::Test;
use crate::{Json, without_case};

/// What a submission says, as far as rules look at it.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The agent that asks.
    pub agent_id: &'a str,
    /// The type of its action.
    pub action_type: &'a str,
    /// The priority that it asks with, 1 to 3.
    pub priority: crate::Priority,
    /// The agent's own name of the requests that it belongs with.
    pub group: Option<&'a str>,
    /// The person for whom it asks.
    pub on_behalf_of: Option<&'a str>,
    /// What rules may do with it.
    pub latitude: super::Latitude,
}

/// What came of looking at a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Holds,
    HoldsNot,
    /// A comparison could not be made.
    Fails,
}

/// The person for whom an agent acts.
#[derive(Clone, Debug)]
pub(super) enum OnBehalf {
    Present,
    Absent,
    /// Any of these, in lower case.
    Of(Vec<String>),
}

impl OnBehalf {
    fn holds(&self, person: Option<&str>) -> bool {
        match self {
            Self::Present => person.is_some(),
            Self::Absent => person.is_none(),
            Self::Of(people) => person.is_some_and(|person| people.contains(&without_case(person))),
        }
    }
}

/// What is asked of one argument.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    /// RFC 6901, as steps.
    pub(super) steps: Vec<String>,
    /// Whether it must be there; looked at first. Where that does not hold, nothing is there to be compared.
    pub(super) exists: Option<bool>,
    pub(super) tests: Vec<Test>,
}

enum Found<'a> {
    Value(&'a Json),
    Absent,
    /// Another name differs from a step in nothing but case: what the agent's tool takes is not known.
    Ambiguous,
}

impl Condition {
    fn find<'a>(&self, arguments: &'a Json) -> Found<'a> {
        let mut value = arguments;
        for step in &self.steps {
            let next = match value {
                Json::Object(members) => {
                    let is_ambiguous = |(name, _): &(String, Json)| name != step && name.eq_ignore_ascii_case(step);
                    if members.iter().any(is_ambiguous) {
                        return Found::Ambiguous;
                    }
                    value.get(step)
                }
                Json::Array(items) => index(step).and_then(|index| items.get(index)),
                _ => None,
            };
            let Some(next) = next else { return Found::Absent };
            value = next;
        }
        Found::Value(value)
    }

    fn judge(&self, arguments: &Json) -> Judged {
        let found = self.find(arguments);
        match (&found, self.exists) {
            (Found::Ambiguous, _) => return Judged::Fails,
            (Found::Value(_), Some(false)) | (Found::Absent, Some(true)) => return Judged::HoldsNot,
            _ => {}
        }
        match found {
            Found::Value(value) => all(self.tests.iter().map(|test| match test.holds(value) {
                Some(true) => Judged::Holds,
                Some(false) => Judged::HoldsNot,
                None => Judged::Fails,
            })),
            // `exists: false` holds, and there is nothing else to hold.
            _ if self.tests.is_empty() => Judged::Holds,
            _ => Judged::Fails,
        }
    }
}

/// A whole number without a sign or leading zeros.
fn index(step: &str) -> Option<usize> {
    let is_plain = step == "0" || (step.bytes().all(|byte| byte.is_ascii_digit()) && !step.starts_with('0'));
    is_plain.then(|| step.parse().ok()).flatten()
}

/// All of them must hold; one that cannot be judged fails them all, wherever it stands.
pub(super) fn all(judged: impl Iterator<Item = Judged>) -> Judged {
    judged.fold(Judged::Holds, |whole, one| match (whole, one) {
        (Judged::Fails, _) | (_, Judged::Fails) => Judged::Fails,
        (Judged::Holds, Judged::Holds) => Judged::Holds,
        _ => Judged::HoldsNot,
    })
}

/// What a rule asks beyond agent, action type and priority, which its index answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    pub(super) groups: Option<Vec<String>>,
    pub(super) on_behalf_of: Option<OnBehalf>,
    pub(super) arguments: Vec<Condition>,
    /// Must not all hold. `None`: nothing is said.
    pub(super) not: Option<Vec<Condition>>,
}

impl Conditions {
    /// Whether arguments must be read for it.
    pub(super) fn look_at_arguments(&self) -> bool {
        !self.arguments.is_empty() || self.not.is_some()
    }

    pub(super) fn judge(&self, facts: &Facts<'_>, arguments: &Json) -> Judged {
        let is_of_group = |groups: &Vec<String>| facts.group.is_some_and(|group| groups.iter().any(|one| one == group));
        if !self.groups.as_ref().is_none_or(is_of_group)
            || !self.on_behalf_of.as_ref().is_none_or(|people| people.holds(facts.on_behalf_of))
        {
            return Judged::HoldsNot;
        }
        let of = |conditions: &[Condition]| all(conditions.iter().map(|one| one.judge(arguments)));
        let not = self.not.as_deref().map_or(Judged::Holds, |conditions| match of(conditions) {
            Judged::Holds => Judged::HoldsNot,
            Judged::HoldsNot => Judged::Holds,
            Judged::Fails => Judged::Fails,
        });
        all([of(&self.arguments), not].into_iter())
    }
}
