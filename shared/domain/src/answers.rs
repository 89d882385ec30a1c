//! Answers that an agent can take, and the person for whom it asks (contract, "Answers").

use std::collections::BTreeSet;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValueKind, ValuePointerRef, take_cf_content};
use serde::{Deserialize, Serialize};

use super::ids::{PersonId, PersonName};
use super::stored::stored_as_text;

/// An answer that an operator may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserr, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(rename_all = lowercase)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The agent may run the action as it is.
    Approve,
    /// The agent must not run it.
    Reject,
    /// The agent may run it with other arguments.
    Edit,
    /// The agent runs nothing and gets a value instead.
    Respond,
}

stored_as_text!(Answer { Approve = "approve", Reject = "reject", Edit = "edit", Respond = "respond" });

/// The answers that an agent can take. To reject is always among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Answers(BTreeSet<Answer>);

impl Default for Answers {
    fn default() -> Self {
        Self([Answer::Approve, Answer::Reject].into())
    }
}

impl Answers {
    /// Those that an envelope names.
    #[must_use]
    pub fn of(named: &[Answer]) -> Self {
        Self(named.iter().copied().chain([Answer::Reject]).collect())
    }

    /// Whether it is offered.
    #[must_use]
    pub fn has(&self, answer: Answer) -> bool {
        self.0.contains(&answer)
    }

    /// All of them, in one order.
    pub fn iter(&self) -> impl Iterator<Item = Answer> {
        self.0.iter().copied()
    }

    /// As a column has them: names with commas between; `None` for the default.
    #[must_use]
    pub fn column(&self) -> Option<String> {
        (*self != Self::default()).then(|| self.iter().map(Answer::as_str).collect::<Vec<_>>().join(","))
    }
}

/// The person for whom an agent acts.
#[derive(Clone, Debug, PartialEq, Eq, Deserr, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
pub struct OnBehalfOf {
    /// An operator's id, `sub`, e-mail address or user name. An operator known by it may not approve the request.
    pub id: PersonId,
    /// For the operator's eyes.
    #[deserr(default, from(PersonName) = Some)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub name: Option<PersonName>,
}

/// What people are called, without case.
#[must_use]
pub fn without_case(name: &str) -> String {
    name.to_lowercase()
}

/// How long an approval may be used, in seconds: 10 to 86,400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = i32, minimum = 10, maximum = 86400))]
#[serde(transparent)]
pub struct PermitSeconds(pub i32);

impl<E: DeserializeError> Deserr<E> for PermitSeconds {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        let seconds = match value {
            Value::Integer(seconds) => i32::try_from(seconds).ok(),
            Value::NegativeInteger(_) => None,
            actual => {
                let accepted = &[ValueKind::Integer];
                return Err(take_cf_content(E::error(None, ErrorKind::IncorrectValueKind { actual, accepted }, at)));
            }
        };
        seconds.filter(|seconds| (10..=86_400).contains(seconds)).map(Self).ok_or_else(|| {
            let msg = "must be 10 to 86400".to_owned();
            take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg }, at))
        })
    }
}
