//! The document of a tenant's rules, as an administrator writes it: every fault at once, with its pointer.

use std::collections::HashSet;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValueKind, ValuePointerRef, take_cf_content};
use serde::Serialize;

use super::conditions::ArgumentConditions;
use super::index::Index;
use super::matching::{Conditions, OnBehalf};
use super::verdict::{Decides, Effect};
use super::{MAX_BYTES_OF_NAMES, MAX_RULES, MAX_RULES_BYTES, Rule, Rules};
use crate::envelope::FreeObject;
use crate::{
    ActionPattern, AgentId, Digest, Faults, GroupKey, GroupName, Json, Note, ParseError, PermitSeconds, PersonId,
    Priority, Reason, RuleName, from_object, without_case,
};

/// A whole number from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = i32))]
#[serde(transparent)]
pub struct Whole<const LEAST: i32, const MOST: i32>(pub i32);

impl<const LEAST: i32, const MOST: i32, E: DeserializeError> Deserr<E> for Whole<LEAST, MOST> {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        let number = match value {
            Value::Integer(number) => i32::try_from(number).ok(),
            Value::NegativeInteger(_) => None,
            actual => {
                let accepted = &[ValueKind::Integer];
                return Err(take_cf_content(E::error(None, ErrorKind::IncorrectValueKind { actual, accepted }, at)));
            }
        };
        number.filter(|number| (LEAST..=MOST).contains(number)).map(Self).ok_or_else(|| {
            let msg = format!("must be {LEAST} to {MOST}");
            take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg }, at))
        })
    }
}

/// A list with something in it.
#[derive(Clone, Debug)]
struct Some1<T>(Vec<T>);

impl<T: Deserr<E>, E: DeserializeError + deserr::MergeWithError<E>> Deserr<E> for Some1<T> {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        let items = Vec::<T>::deserialize_from_value(value, at)?;
        if items.is_empty() {
            let msg = "must not be empty".to_owned();
            return Err(take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg }, at)));
        }
        Ok(Self(items))
    }
}

impl<T> From<Some1<T>> for Vec<T> {
    fn from(list: Some1<T>) -> Self {
        list.0
    }
}

impl<T> From<Some1<T>> for Option<Vec<T>> {
    fn from(list: Some1<T>) -> Self {
        Some(list.0)
    }
}

/// Whether a rule acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "openapi", schema(rename_all = "lowercase"))]
pub enum RuleMode {
    /// It acts.
    Enforce,
    /// It never acts.
    Shadow,
    /// It is not looked at.
    Off,
}

/// What a rule makes of a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(rename_all = "snake_case"))]
pub enum RuleTimeout {
    /// The request is rejected.
    #[deserr(rename = "auto_reject")]
    AutoReject,
    /// One priority up, with that priority's time; at P1 it is rejected.
    #[deserr(rename = "raise")]
    Raise,
}

/// Whether an approval must be consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = RuleConsume))]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "openapi", schema(rename_all = "lowercase"))]
pub enum Consume {
    /// Before its delivery is accepted.
    Required,
}

/// Groups that are asked, too, when a part of the time is over.
#[derive(Clone, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
pub struct Escalation {
    /// After this share of the time, 1 to 99 percent.
    #[cfg_attr(feature = "openapi", schema(value_type = i32, minimum = 1, maximum = 99))]
    pub after_percent: Whole<1, 99>,
    /// They may decide from then on, beside those who were asked.
    #[deserr(from(Some1<GroupName>) = Vec::from)]
    pub groups: Vec<GroupName>,
}

/// Who is asked, and how. What is left out comes from the timeout policies; without groups and operators, everyone of the
/// tenant is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
pub struct Ask {
    /// Groups whose operators may decide.
    #[deserr(default, from(Some1<GroupName>) = Option::from)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub groups: Option<Vec<GroupName>>,
    /// Operators who may decide.
    #[deserr(default, from(Some1<PersonId>) = Option::from)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub operators: Option<Vec<PersonId>>,
    /// Further groups that those who may decide may reroute it to.
    #[deserr(default, from(Some1<GroupName>) = Option::from)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub reroute_to: Option<Vec<GroupName>>,
    /// Approvals that decide, 1 to 10.
    #[deserr(default, from(Whole<1, 10>) = Some)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i32>, minimum = 1, maximum = 10, nullable = false))]
    pub approvals: Option<Whole<1, 10>>,
    /// In the place of the priority that the agent asks with.
    #[deserr(default, from(Priority) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub priority: Option<Priority>,
    /// Time from submission to `respond_by`, 1 second to a year.
    #[deserr(default, from(Whole<1, 31_536_000>) = Some)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i32>, minimum = 1, maximum = 31_536_000, nullable = false))]
    pub respond_within_seconds: Option<Whole<1, 31_536_000>>,
    /// Who is asked, too, later on.
    #[deserr(default, from(Escalation) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub escalate: Option<Escalation>,
    /// What happens at `respond_by`.
    #[deserr(default, from(RuleTimeout) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub on_timeout: Option<RuleTimeout>,
    /// How long an approval may be used at the most, 10 to 86,400 seconds.
    #[deserr(default, from(PermitSeconds) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub permit_seconds: Option<PermitSeconds>,
    /// Whether an approval must be consumed.
    #[deserr(default, from(Consume) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub consume: Option<Consume>,
    /// Whether the person for whom the agent acts may approve it.
    #[deserr(default, from(bool) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub requester_may_decide: Option<bool>,
}

/// A decision without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "openapi", schema(rename_all = "lowercase"))]
enum RuleVerdict {
    Approve,
    Reject,
}

/// How often a rule may decide; what is over it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = RuleAtMost))]
#[deserr(deny_unknown_fields)]
pub struct AtMost {
    /// Decisions, 1 to 1,000,000,000.
    #[cfg_attr(feature = "openapi", schema(value_type = i32, minimum = 1, maximum = 1_000_000_000))]
    pub count: Whole<1, 1_000_000_000>,
    /// In so many seconds from the first of them on, up to a year.
    #[cfg_attr(feature = "openapi", schema(value_type = i32, minimum = 1, maximum = 31_536_000))]
    pub per_seconds: Whole<1, 31_536_000>,
}

/// What a rule does: `ask`, or `decide` with a reason.
#[derive(Clone, Debug, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
struct Then {
    #[deserr(default, from(Ask) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    ask: Option<Ask>,
    #[deserr(default, from(RuleVerdict) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    decide: Option<RuleVerdict>,
    #[deserr(default, from(Reason) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    reason: Option<Reason>,
    #[deserr(default, from(AtMost) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    at_most: Option<AtMost>,
}

impl<E: DeserializeError + deserr::MergeWithError<E>> Deserr<E> for OnBehalf {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        match value {
            Value::String(text) if text == "present" => Ok(Self::Present),
            Value::String(text) if text == "absent" => Ok(Self::Absent),
            Value::String(_) => {
                let msg = "must be present, absent or a list of people".to_owned();
                Err(take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg }, at)))
            }
            Value::Sequence(people) => {
                let Some1(people) = Some1::<PersonId>::deserialize_from_value(Value::<V>::Sequence(people), at)?;
                Ok(Self::Of(people.iter().map(|person| without_case(person.as_str())).collect()))
            }
            actual => {
                let accepted = &[ValueKind::String, ValueKind::Sequence];
                Err(take_cf_content(E::error(None, ErrorKind::IncorrectValueKind { actual, accepted }, at)))
            }
        }
    }
}

/// What a rule is about; all that is named must hold.
#[derive(Clone, Debug, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
#[expect(dead_code, reason = "of arguments only the kind is looked at here: `ArgumentConditions` reads them")]
struct Match {
    /// Any of these agents.
    #[deserr(default, from(Some1<AgentId>) = Option::from)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    agents: Option<Vec<AgentId>>,
    /// Any of these types: exact, or their beginning and `*`.
    #[deserr(default, from(Some1<ActionPattern>) = Option::from)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    action_types: Option<Vec<ActionPattern>>,
    /// Any of these priorities, as the agent asks.
    #[deserr(default, from(Some1<Priority>) = Option::from)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    priorities: Option<Vec<Priority>>,
    /// Any of these groups of requests.
    #[deserr(default, from(Some1<GroupKey>) = Option::from)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    groups: Option<Vec<GroupKey>>,
    /// `present`, `absent` or a list of people.
    #[deserr(default, from(OnBehalf) = Some)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>, nullable = false))]
    on_behalf_of: Option<OnBehalf>,
    /// For JSON pointers into the arguments: any of `equals`, `in`, `lt`, `lte`, `gt`, `gte`, `prefix`, `exists` and
    /// `length_lte`.
    #[deserr(default, from(FreeObject) = Some)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object, required = false))]
    arguments: Option<FreeObject>,
    /// What must not hold.
    #[deserr(default, from(Not) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    not: Option<Not>,
}

/// What must not hold.
#[derive(Clone, Debug, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
struct Not {
    #[expect(dead_code, reason = "its kind is what is looked at")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    arguments: FreeObject,
}

/// One rule.
#[derive(Clone, Debug, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
struct RuleBody {
    name: RuleName,
    mode: RuleMode,
    #[deserr(rename = "match")]
    #[cfg_attr(feature = "openapi", schema(rename = "match"))]
    of: Match,
    then: Then,
}

/// The body that sets a tenant's rules.
#[derive(Clone, Debug, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
pub struct RulesBody {
    /// At most 500, together at most 256 KiB. The first that holds applies.
    rules: Vec<RuleBody>,
    /// Why, up to 2,000 characters.
    note: Note,
}

/// A document that was read.
#[derive(Clone, Debug)]
pub struct RulesDocument {
    /// The rules that are looked at: in force, or in the shadow.
    pub rules: Rules,
    /// The list of rules as JSON without white space, numbers as they were written.
    pub text: Vec<u8>,
    /// Why.
    pub note: Note,
}

impl RulesDocument {
    /// The rules of a list alone, as it is stored or drafted.
    ///
    /// # Errors
    /// It is no such list.
    pub fn of_list(list: &[u8]) -> Result<Rules, ParseError> {
        let body = [br#"{"note":"","rules":"#.as_slice(), list, b"}"].concat();
        Self::parse(&body).map(|document| document.rules)
    }

    /// Reads what an administrator sets.
    ///
    /// # Errors
    /// It is no such document, and why.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let json = Json::parse(bytes)?;
        let mut faults = Faults::default();
        let mut text = Vec::new();
        let mut conditions = Vec::new();
        if let Some(rules) = json.get("rules") {
            rules.write(&mut text);
            if let Json::Array(rules) = rules {
                let of = rules.iter().take(MAX_RULES).enumerate();
                conditions = of.map(|(place, rule)| ArgumentConditions::read(rule, place, &mut faults)).collect();
            }
        }
        let body = match from_object::<RulesBody>(json) {
            Ok(body) => body,
            Err(more) => {
                faults.extend(more);
                return Err(ParseError::Invalid(faults));
            }
        };
        if body.rules.len() > MAX_RULES {
            faults.add("/rules", format!("must be at most {MAX_RULES}"));
        }
        if text.len() > MAX_RULES_BYTES {
            faults.add("/rules", format!("must be at most {} KiB long", MAX_RULES_BYTES / 1024));
        }
        let mut names = HashSet::new();
        for (place, rule) in body.rules.iter().enumerate() {
            if !names.insert(&rule.name) {
                faults.add(format!("/rules/{place}/name"), "is the name of an earlier rule");
            }
            rule.then.check(place, &mut faults);
        }
        if !faults.is_empty() {
            return Err(ParseError::Invalid(faults));
        }
        Ok(Self { rules: looked_at(body.rules, conditions), text, note: body.note })
    }
}

impl Then {
    fn check(&self, place: usize, faults: &mut Faults) {
        let mut add = |member: &str, detail: &str| faults.add(format!("/rules/{place}/then{member}"), detail);
        match (self.decide, &self.ask) {
            (None, None) => add("", "must have ask or decide"),
            (Some(_), Some(_)) => add("", "must have ask or decide, not both"),
            (Some(_), None) => {
                if self.reason.is_none() {
                    add("/reason", "is required to decide");
                }
            }
            (None, Some(ask)) => {
                if ask.bytes_of_names() > MAX_BYTES_OF_NAMES {
                    add("/ask", "names more than 4 KiB of groups and operators");
                }
                for (member, is_there) in [("/reason", self.reason.is_some()), ("/at_most", self.at_most.is_some())] {
                    if is_there {
                        add(member, "is only there to decide");
                    }
                }
            }
        }
    }
}

impl Then {
    /// Of a rule without faults, which has `decide` with a reason or `ask`, and of the scope that its limit counts.
    fn effect(self, scope: Digest) -> Effect {
        match (self.decide, self.reason) {
            (Some(verdict), Some(reason)) => {
                let decides = Decides { reason, at_most: self.at_most, scope };
                match verdict {
                    RuleVerdict::Approve => Effect::Approve(decides),
                    RuleVerdict::Reject => Effect::Reject(decides),
                }
            }
            _ => Effect::Ask(self.ask.unwrap_or_default()),
        }
    }
}

/// The rules that act, and those that would, with their index.
fn looked_at(rules: Vec<RuleBody>, conditions: Vec<ArgumentConditions>) -> Rules {
    fn texts<T: Clone + Into<String>>(list: Option<&Vec<T>>) -> Option<Vec<String>> {
        list.map(|list| list.iter().cloned().map(Into::into).collect())
    }
    let mut index = Index::new();
    let mut kept = Vec::new();
    for (rule, arguments) in rules.into_iter().zip(conditions) {
        if rule.mode == RuleMode::Off {
            continue;
        }
        let (agents, types) = (texts(rule.of.agents.as_ref()), texts(rule.of.action_types.as_ref()));
        index.add(kept.len(), agents.as_deref(), types.as_deref(), rule.of.priorities.as_deref());
        let conditions = Conditions {
            groups: texts(rule.of.groups.as_ref()),
            on_behalf_of: rule.of.on_behalf_of,
            arguments: arguments.all,
            not: arguments.not,
        };
        let is_shadow = rule.mode == RuleMode::Shadow;
        kept.push(Rule { name: rule.name, conditions, effect: rule.then.effect(arguments.scope), is_shadow });
    }
    Rules { rules: kept, index }
}
