//! Whom a request is assigned to, and who is at it (contract, "Who may decide").

use serde::{Deserialize, Serialize};

use super::decision::{Actor, ActorKind};
use super::time::Timestamp;

/// Those who may decide a request: operators of any of the groups, and these operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AssignedTo {
    /// Groups, as operators' tokens name them.
    pub groups: Vec<String>,
    /// Ids of operators.
    pub operators: Vec<String>,
}

impl AssignedTo {
    /// Of the stored columns; `None`: everyone of the tenant may decide.
    #[must_use]
    pub fn stored(groups: Option<Vec<String>>, operators: Option<Vec<String>>) -> Option<Self> {
        (groups.is_some() || operators.is_some())
            .then(|| Self { groups: groups.unwrap_or_default(), operators: operators.unwrap_or_default() })
    }
}

/// An operator who says to be at a request: advice to others, no lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The operator.
    pub by: Actor,
    /// Until when.
    pub until: Timestamp,
}

impl Claim {
    /// Of the stored columns.
    #[must_use]
    pub fn stored(id: Option<String>, name: Option<String>, until: Option<Timestamp>) -> Option<Self> {
        let (id, until) = id.zip(until)?;
        Some(Self { by: Actor { kind: ActorKind::Operator, id, name, acts_for: None }, until })
    }
}
