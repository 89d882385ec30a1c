//! Rules: what is decided without a person, and who is asked of the rest (contract, "Rules"). A document is read and checked
//! whole, indexed once, and judged against each submission. Pure: no I/O, no clock.
//!
//! A comparison that cannot be made fails its rule, and a failed rule makes what follows stricter, never laxer.

mod compare;
mod conditions;
mod document;
mod index;
mod matching;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod verdict;

pub use document::{Ask, AtMost, Consume, Escalation, RuleMode, RuleTimeout, RulesBody, RulesDocument, Whole};
pub use matching::Facts;
pub use verdict::{Applied, Decides, Effect, Judgement, Latitude};

use index::Index;
use matching::{Conditions, Judged};
use serde::Serialize;
use verdict::Course;

use crate::{GroupName, Json, PermitSeconds, RuleName};

/// Most rules of a document.
const MAX_RULES: usize = 500;
/// Longest document, in bytes.
const MAX_RULES_BYTES: usize = 256 * 1024;

/// A rule, beyond what the index knows of it.
#[derive(Clone, Debug)]
struct Rule {
    name: RuleName,
    conditions: Conditions,
    effect: Effect,
    /// It is judged, and never acts.
    is_shadow: bool,
}

/// The rules of one document that are looked at: those in force, and those that only would be.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    index: Index,
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
    /// What applies. `arguments` are read only where a rule looks at them.
    #[must_use]
    pub fn judge(&self, facts: &Facts<'_>, arguments: impl FnOnce() -> Json) -> Judgement {
        let candidates = self.index.candidates(facts.agent_id, facts.action_type, facts.priority);
        let rules: Vec<&Rule> = candidates.iter().filter_map(|place| self.rules.get(place)).collect();
        let arguments =
            if rules.iter().any(|rule| rule.conditions.look_at_arguments()) { arguments() } else { Json::Null };
        let latitude = facts.latitude.of(facts.priority);
        // What applies, and what would if those of the shadow did.
        let (mut acting, mut all) = (Course::new(latitude), Course::new(latitude));
        let has_shadows = rules.iter().any(|rule| rule.is_shadow);
        let (mut failed, mut would) = (Vec::new(), None);
        for rule in rules {
            // Behind what applies only those of the shadow are judged.
            if acting.is_settled() && (!has_shadows || (all.is_settled() && !rule.is_shadow)) {
                continue;
            }
            let judged = rule.conditions.judge(facts, &arguments);
            if judged == Judged::Fails && (rule.is_shadow || !acting.is_settled()) {
                failed.push(rule.name.clone());
            }
            if !rule.is_shadow {
                acting.see(rule, judged);
            } else if judged == Judged::Holds {
                would = would.or(Some(rule));
            }
            if has_shadows {
                all.see(rule, judged);
            }
        }
        let shadow = all.applied_of_shadow().or_else(|| Course::of_one(would?, latitude));
        Judgement { applied: acting.applied(), failed, shadow }
    }

    /// How many are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.iter().filter(|rule| !rule.is_shadow).count()
    }

    /// Whether none is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
