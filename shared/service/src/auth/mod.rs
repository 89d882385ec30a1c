//! Authentication of callers: bearer tokens, and the extractors that are a handler's authority.
//!
//! The first parameter of a handler is [`Agent`] with the scope that it asks of the key, [`Operator`] or [`Admin`]. Any
//! other caller never reaches its body. The edge (`http`) verifies the token once and puts an [`Identity`] into the
//! request.

mod agent_keys;
mod bearer;
mod extract;
mod issuer;
mod issuer_keys;
mod response_secret;
mod tokens;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::{HeaderMap, header};

pub use agent_keys::{KeyAlg, PublicKey};
pub use bearer::{BearerMaster, token_digest};
pub(crate) use extract::BadQuery;
pub use extract::{Admin, Agent, Ask, AsksFor, Execute, ExecuteAny, Hook, Identity, Operator, Provision, SignedIn};
pub use issuer::{ClaimPlaces, Issuer, IssuerKeys};
pub use response_secret::{MasterSecrets, ResponseKey};
pub use tokens::TokenRules;

use relaytrace_domain::Clock;
use relaytrace_domain::{Actor, ActorKind, KeyRights, TenantId};
use relaytrace_domain::{Error, Result};
use relaytrace_store::{Caller, Scope, Store};

/// Someone whose token verified.
#[derive(Clone, Debug)]
pub enum Principal {
    /// A registered program.
    Agent {
        /// It and its key.
        caller: Caller,
        /// The rights of its key.
        rights: Arc<KeyRights>,
        /// What responses to it are signed with.
        response_key: Arc<ResponseKey>,
    },
    /// A person with a token from the issuer.
    Person(Person),
}

/// A person as the issuer's token describes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The token's `sub`.
    pub id: String,
    /// The token's `name`.
    pub name: Option<String>,
    /// May decide.
    pub is_operator: bool,
    /// May administer. Neither role implies the other.
    pub is_admin: bool,
    /// The groups of the token.
    pub groups: Vec<String>,
    /// The token's `sub`, `email` and `preferred_username`, in lower case.
    pub known_as: Vec<String>,
}

impl Person {
    /// The caller, in the one tenant of a deployment with one issuer.
    fn scope(self, kind: ActorKind) -> Scope {
        let actor = Actor { kind, id: self.id, name: self.name };
        Scope { tenant: TenantId::default(), actor, known_as: self.known_as }
    }
}

impl Principal {
    /// For the log.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Agent { caller, .. } => caller.agent_id.as_str(),
            Self::Person(person) => &person.id,
        }
    }
}

/// A token that did not verify.
#[derive(Debug)]
pub struct Failed {
    /// [`Error::Unauthenticated`] with the reason for the log; [`Error::Unavailable`] where keys cannot be looked up.
    pub error: Error,
    /// Where only that is out of reach whether the key is still active: the agent's answer is signed all the same.
    pub response_key: Option<Arc<ResponseKey>>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, response_key: None }
    }
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Authenticator {
    rules: TokenRules,
    clock: Clock,
    agent_keys: agent_keys::KeyRing,
    issuer: Issuer,
    verified: tokens::Verified,
}

impl Authenticator {
    /// An authenticator with empty caches.
    #[must_use]
    pub fn new(rules: TokenRules, store: Store, issuer: Issuer, masters: Arc<MasterSecrets>) -> Self {
        let clock = store.clock().clone();
        let agent_keys = agent_keys::KeyRing::new(store, masters);
        Self { rules, clock, agent_keys, issuer, verified: tokens::Verified::default() }
    }

    /// Who sends these headers.
    ///
    /// # Errors
    /// The token did not verify.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Principal>, Failed> {
        let token = bearer_token(headers)?;
        let now = self.clock.now();
        if let Some(principal) = self.verified.get(token, now) {
            return Ok(principal);
        }
        // Boxed: what looks keys up is large, and each call would hold room for it until its end.
        Box::pin(self.verify(token, now)).await
    }

    async fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Arc<Principal>, Failed> {
        let (principal, good) = if bearer::is_bearer(token) {
            self.agent_keys.verify_bearer(token, now).await?
        } else {
            self.verify_jwt(token, now).await?
        };
        let principal = Arc::new(principal);
        self.verified.insert(token, principal.clone(), now, good);
        Ok(principal)
    }

    async fn verify_jwt(&self, token: &str, now: DateTime<Utc>) -> Result<(Principal, tokens::Validity), Failed> {
        let unverified = tokens::Unverified::read(token)?;
        self.rules.is_worth_a_key(&unverified.claims, now)?;
        if unverified.claims.iss == self.issuer.name() {
            Ok(self.issuer.verify(token, &unverified, &self.rules, now).await?)
        } else {
            self.agent_keys.verify(token, &unverified, &self.rules, now).await
        }
    }
}

/// RFC 6750, section 2.1.
fn bearer_token(headers: &HeaderMap) -> Result<&str> {
    /// Longer ones are not even parsed (contract, "Limits").
    const LONGEST: usize = 16 * 1024;
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Error::Unauthenticated("no token"))?;
    if values.next().is_some() {
        return Err(Error::Unauthenticated("several Authorization headers"));
    }
    let value = value.to_str().map_err(|_| Error::Unauthenticated("Authorization is not ASCII"))?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && token.len() <= LONGEST => Ok(token.trim()),
        Some((_, token)) if token.len() > LONGEST => Err(Error::Unauthenticated("the token is too long")),
        _ => Err(Error::Unauthenticated("not a bearer token")),
    }
}
