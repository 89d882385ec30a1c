//! Rules: who is asked, and how (contract, "Rules"). A document is read and checked whole, indexed once, and judged against
//! each submission. Pure: no I/O, no clock.
//!
//! A comparison that cannot be made fails its rule, and a failed rule makes what follows stricter, never laxer.

mod compare;
mod conditions;
mod document;
mod index;
mod matching;
#[cfg(test)]
mod tests;

pub use document::{Ask, Consume, Escalation, RuleMode, RuleTimeout, RulesBody, RulesDocument, Whole};
pub use matching::Facts;

use index::Index;
use matching::{Conditions, Judged};
use serde::Serialize;

use crate::{GroupName, Json, PermitSeconds, RuleName};

/// Most rules of a document.
pub const MAX_RULES: usize = 500;
/// Longest document, in bytes.
pub const MAX_RULES_BYTES: usize = 256 * 1024;

/// A rule in force, beyond what the index knows of it.
#[derive(Clone, Debug)]
struct Rule {
    name: RuleName,
    conditions: Conditions,
    /// `None`: it decides, which this release does not do; it asks as if nothing were said.
    ask: Option<Ask>,
}

/// The rules in force of one document.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    index: Index,
}

/// What the rules say of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The rule that applies, or the first that failed.
    pub rule: RuleName,
    /// The rule could not be judged.
    pub failed: bool,
    /// Who is asked, and how.
    pub ask: Ask,
}

/// The rule that applied to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = AppliedRule))]
pub struct RuleOf {
    /// Its name.
    pub name: String,
    /// The version of the rules.
    pub version: i32,
}

impl RuleOf {
    /// Of the stored columns.
    #[must_use]
    pub fn stored(name: Option<String>, version: Option<i32>) -> Option<Self> {
        name.zip(version).map(|(name, version)| Self { name, version })
    }
}

impl Rules {
    /// What applies; `None`: no rule does, and none failed. `arguments` are read only where a rule looks at them.
    #[must_use]
    pub fn judge(&self, facts: &Facts<'_>, arguments: impl FnOnce() -> Json) -> Option<Applied> {
        let candidates = self.index.candidates(facts.agent_id, facts.action_type, facts.priority);
        let rules: Vec<&Rule> = candidates.iter().filter_map(|place| self.rules.get(place)).collect();
        let arguments =
            if rules.iter().any(|rule| rule.conditions.look_at_arguments()) { arguments() } else { Json::Null };
        let mut failed: Option<&Rule> = None;
        let (mut routing, mut unjudged) = (None, None);
        let mut strictest = Ask::default();
        for rule in rules {
            match (rule.conditions.judge(facts, &arguments), failed) {
                (Judged::HoldsNot, _) => {}
                (Judged::Holds, None) => {
                    let ask = rule.ask.clone().unwrap_or_default();
                    return Some(Applied { rule: rule.name.clone(), failed: false, ask });
                }
                (judged, _) => {
                    if judged == Judged::Fails {
                        failed = failed.or(Some(rule));
                        unjudged = unjudged.or(rule.ask.as_ref());
                    } else {
                        routing = routing.or(rule.ask.as_ref());
                    }
                    // A rule that may apply counts as one that does: the strictest.
                    strictest.tighten(rule.ask.as_ref());
                }
            }
        }
        failed.map(|rule| {
            let ask = routing.or(unjudged).cloned().unwrap_or_default();
            let Ask { approvals, consume, permit_seconds, .. } = strictest;
            // What cannot be judged allows nothing.
            let ask = Ask { approvals, consume, permit_seconds, requester_may_decide: None, ..ask };
            Applied { rule: rule.name.clone(), failed: true, ask }
        })
    }

    /// How many are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether none is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// Most bytes of the names of those who are asked: each list that shows a request shows them.
pub const MAX_BYTES_OF_NAMES: usize = 4 * 1024;

impl Ask {
    /// Takes over what is stricter in another.
    fn tighten(&mut self, other: Option<&Self>) {
        let Some(other) = other else { return };
        self.approvals = self.approvals.max(other.approvals);
        self.consume = self.consume.or(other.consume);
        self.permit_seconds = match (self.permit_seconds, other.permit_seconds) {
            (Some(one), Some(another)) => Some(PermitSeconds(one.0.min(another.0))),
            (one, another) => one.or(another),
        };
    }

    /// Bytes of the names of groups and operators, each list of them at its longest.
    fn bytes_of_names(&self) -> usize {
        let groups =
            |list: Option<&Vec<GroupName>>| list.into_iter().flatten().map(|name| name.as_str().len()).sum::<usize>();
        let operators = self.operators.iter().flatten().map(|id| id.as_str().len()).sum::<usize>();
        let escalated = self.escalate.as_ref().map(|escalation| &escalation.groups);
        groups(self.groups.as_ref()) + operators + groups(self.reroute_to.as_ref()) + groups(escalated)
    }

    /// Whether it names people: then no timeout approves.
    #[must_use]
    pub fn names_people(&self) -> bool {
        self.groups.is_some() || self.operators.is_some()
    }
}
