//! The caller of an operation: every operation on data names one.

use relaytrace_domain::{Actor, ActorKind, AgentId, KeyId, TenantId};

/// An agent and the key that its token was signed with: every statement of an agent asks whether both are active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`.
    pub agent_id: AgentId,
    /// The token's `kid`.
    pub key_id: KeyId,
}

/// A person, and the tenant that they see: nothing of another tenant exists for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Their tenant.
    pub tenant: TenantId,
    /// The person.
    pub actor: Actor,
    /// Other identifiers of the person (`sub`, e-mail address, user name), in lower case.
    pub known_as: Vec<String>,
    /// Their groups, as the token gives them.
    pub groups: Vec<String>,
}

impl Scope {
    /// A program of the deployment itself, in the tenant that always exists.
    #[must_use]
    pub fn of_program(name: &str) -> Self {
        let actor = Actor { kind: ActorKind::System, id: name.to_owned(), name: None };
        Self { tenant: TenantId::default(), actor, known_as: Vec::new(), groups: Vec::new() }
    }
}
