//! Whether a verified answer is about what was asked (contract, "Signed responses").
//!
//! The signature covers the request's nonce, not its path or body, so that proxies may rewrite paths. A proxy that sends
//! the nonce of one question with the path of another therefore gets a signed answer to the other question. Only the
//! members of the answer tell the two apart: each answer names its agent, its request and the agent's own key.

use uuid::Uuid;

use crate::model::{Acknowledged, Cancelled, Consumed, Decision, Found, Polled, Reported, RequestState};

/// What a call asked about. A member that the caller does not know is `None`, and is not compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The agent of the request.
    pub agent_id: &'a str,
    /// The requests that an answer may name; empty means any of the agent.
    pub request_ids: &'a [Uuid],
    /// The agent's own key.
    pub client_request_key: Option<&'a str>,
    /// Of the action that is decided on.
    pub action_digest: Option<&'a str>,
    /// The delivery that is acknowledged.
    pub delivery_id: Option<Uuid>,
}

impl About<'_> {
    fn agent(&self, answered: &str) -> Result<(), String> {
        same("agent_id", &self.agent_id, &answered)
    }

    fn request(&self, answered: Uuid) -> Result<(), String> {
        if self.request_ids.is_empty() || self.request_ids.contains(&answered) {
            return Ok(());
        }
        let asked: Vec<_> = self.request_ids.iter().map(Uuid::to_string).collect();
        Err(differs("request_id", &asked.join(", "), &answered))
    }

    fn key(&self, answered: &str) -> Result<(), String> {
        self.client_request_key.map_or(Ok(()), |asked| same("client_request_key", &asked, &answered))
    }

    fn digest(&self, answered: &str) -> Result<(), String> {
        self.action_digest.map_or(Ok(()), |asked| same("action_digest", &asked, &answered))
    }

    fn decision(&self, decision: &Decision) -> Result<(), String> {
        self.request(decision.request_id)?;
        self.key(&decision.client_request_key)?;
        self.digest(decision.requested_digest())
    }
}

/// An answer that can be held against its question.
pub trait Answer {
    /// The first member that belongs to another question, in words.
    fn check(&self, about: &About<'_>) -> Result<(), String>;
}

impl Answer for RequestState {
    fn check(&self, about: &About<'_>) -> Result<(), String> {
        about.agent(&self.agent_id)?;
        about.request(self.request_id)?;
        about.key(&self.client_request_key)?;
        about.digest(&self.action_digest)?;
        let own = About {
            request_ids: &[self.request_id],
            client_request_key: Some(&self.client_request_key),
            action_digest: Some(&self.action_digest),
            ..*about
        };
        self.decision.as_ref().map_or(Ok(()), |decision| own.decision(decision))
    }
}

impl Answer for Polled {
    fn check(&self, about: &About<'_>) -> Result<(), String> {
        about.agent(&self.agent_id)?;
        self.decisions.iter().try_for_each(|decision| about.decision(decision))
    }
}

impl Answer for Found {
    fn check(&self, about: &About<'_>) -> Result<(), String> {
        about.agent(&self.agent_id)?;
        self.items.iter().try_for_each(|item| item.check(about))
    }
}

impl Answer for Acknowledged {
    fn check(&self, about: &About<'_>) -> Result<(), String> {
        about.agent(&self.agent_id)?;
        about.request(self.request_id)?;
        if self.delivery_id == about.delivery_id {
            return Ok(());
        }
        let shown = |id: Option<Uuid>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        Err(differs("delivery_id", &shown(about.delivery_id), &shown(self.delivery_id)))
    }
}

impl Answer for Consumed {
    fn check(&self, about: &About<'_>) -> Result<(), String> {
        about.agent(&self.agent_id)?;
        about.request(self.request_id)?;
        about.digest(&self.action_digest)
    }
}

impl Answer for Reported {
    fn check(&self, about: &About<'_>) -> Result<(), String> {
        about.agent(&self.agent_id)?;
        about.request(self.request_id)
    }
}

/// The answer of a bridge, in words that others defined: it names no request of ours.
impl Answer for Box<serde_json::value::RawValue> {
    fn check(&self, _: &About<'_>) -> Result<(), String> {
        Ok(())
    }
}

impl Answer for Cancelled {
    fn check(&self, about: &About<'_>) -> Result<(), String> {
        about.agent(&self.agent_id)?;
        about.request(self.request_id)
    }
}

/// Whether a problem document's `instance` is the path that was called. It may have a prefix: a proxy may serve the API
/// below a path of its own.
pub fn is_instance_of(instance: &str, path: &str) -> bool {
    let asked = path.split('?').next().unwrap_or_default();
    instance.split('?').next().is_some_and(|instance| instance.ends_with(asked))
}

fn same<T: PartialEq + std::fmt::Display>(member: &str, asked: &T, answered: &T) -> Result<(), String> {
    if asked == answered { Ok(()) } else { Err(differs(member, asked, answered)) }
}

fn differs(member: &str, asked: &impl std::fmt::Display, answered: &impl std::fmt::Display) -> String {
    format!("its {member} is {answered}, asked was {asked}")
}
