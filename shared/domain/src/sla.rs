//! What a report on answers is broken down by.

use super::ids::InvalidText;
use super::stored::stored_as_text;

/// What about a request its line of the report is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlaBy {
    /// Its priority, as it now is.
    #[default]
    Priority,
    /// The agent that asked.
    Agent,
    /// Each group of operators that it is assigned to.
    Group,
    /// The operator who decided it.
    Operator,
}

stored_as_text!(SlaBy { Priority = "priority", Agent = "agent", Group = "group", Operator = "operator" });

impl std::str::FromStr for SlaBy {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        [Self::Priority, Self::Agent, Self::Group, Self::Operator]
            .into_iter()
            .find(|by| by.as_str() == text)
            .ok_or(InvalidText("must be priority, agent, group or operator"))
    }
}
