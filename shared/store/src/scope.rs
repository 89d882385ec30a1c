//! The caller of an operation: every operation on data names one.

use relaytrace_domain::{ActedFor, Actor, ActorKind, AgentId, KeyId, TenantId};
use serde_json::{Map, Value, json};

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
    /// The person as `may_decide` and `is_own_request` take them. `for` comes first: `decide.sql` looks there.
    pub(crate) fn person(&self) -> Value {
        let mut person = Map::new();
        if let Some(acts_for) = &self.actor.acts_for {
            person.insert("for".to_owned(), acts_for.id.as_str().into());
            person.insert("for_name".to_owned(), acts_for.name.as_deref().into());
        }
        person.insert("groups".to_owned(), json!(self.groups));
        person.insert("id".to_owned(), self.actor.id.as_str().into());
        person.insert("known_as".to_owned(), json!(self.known_as));
        Value::Object(person)
    }

    /// The same person, acting for this operator.
    #[must_use]
    pub fn acting_for(mut self, operator: ActedFor) -> Self {
        self.actor.acts_for = Some(operator);
        self
    }

    /// A program of the deployment itself, in the tenant that always exists.
    #[must_use]
    pub fn of_program(name: &str) -> Self {
        let actor = Actor { kind: ActorKind::System, id: name.to_owned(), name: None, acts_for: None };
        Self { tenant: TenantId::default(), actor, known_as: Vec::new(), groups: Vec::new() }
    }
}
