//! Scopes of agents' keys (contract, "Scopes of keys").

use std::collections::BTreeSet;

use serde::Serialize;

use super::ids::{ActionType, AgentId};
use super::stored::stored_as_text;

/// One thing that a key may do. Given at registration, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, deserr::Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum KeyScope {
    /// Submit, poll, acknowledge, cancel, look.
    #[deserr(rename = "ask")]
    Ask,
    /// Use the permits of its own agent, and report what became of them.
    #[deserr(rename = "execute")]
    Execute,
    /// The same with permits of the agents and action types that the key names: for the side that runs the tools.
    #[deserr(rename = "execute-any")]
    ExecuteAny,
    /// Only the hooks of agent harnesses.
    #[deserr(rename = "hook")]
    Hook,
    /// Make keys of its own agent.
    #[deserr(rename = "provision")]
    Provision,
}

stored_as_text!(KeyScope {
    Ask = "ask",
    Execute = "execute",
    ExecuteAny = "execute-any",
    Hook = "hook",
    Provision = "provision",
});

/// All that a key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRights {
    /// Its scopes.
    pub scopes: BTreeSet<KeyScope>,
    /// With `execute-any`: permits of these agents, sorted; `None`: of any agent of its tenant.
    pub agents: Option<Vec<AgentId>>,
    /// With `execute-any`: permits of these action types, sorted; `None`: of any.
    pub action_types: Option<Vec<ActionType>>,
}

impl Default for KeyRights {
    /// Those of a key that was registered without scopes.
    fn default() -> Self {
        Self { scopes: [KeyScope::Ask, KeyScope::Execute].into(), agents: None, action_types: None }
    }
}
