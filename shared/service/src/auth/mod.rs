//! Authentication of callers: bearer tokens, and the extractors that are a handler's authority.
//!
//! The first parameter of a handler is [`Agent`] with the scope that it asks of the key, [`Operator`], [`Admin`] or
//! [`Owner`]. Any other caller never reaches its body. The edge (`http`) verifies the token once and puts an [`Identity`] into the
//! request.

mod agent_keys;
mod bearer;
mod extract;
mod issuer;
mod issuer_keys;
mod people;
mod response_secret;
mod standing;
mod tokens;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::{HeaderMap, header};

pub use agent_keys::{KeyAlg, PublicKey};
pub use bearer::{BearerMaster, token_digest};
pub(crate) use extract::BadQuery;
pub use extract::{
    Admin, Agent, Ask, AsksFor, Colleague, Execute, ExecuteAny, Hook, Identity, Operator, Owner, Provision, SignedIn,
};
pub use issuer::{Binding, Issuer, IssuerKeys};
pub use people::{ClaimPlaces, Issuers};
pub use response_secret::{MasterSecrets, ResponseKey};
pub use tokens::TokenRules;

use relaytrace_domain::Clock;
use relaytrace_domain::{Actor, ActorKind, KeyRights, TenantId};
use relaytrace_domain::{Error, Result};
use relaytrace_store::{Caller, OperatorSeen, Scope, Store};

/// Someone whose token verified.
#[derive(Clone, Debug)]
pub enum Principal {
    /// A registered program.
    Agent {
        /// It and its key.
        caller: Caller,
        /// Its tenant.
        tenant: TenantId,
        /// The rights of its key.
        rights: Arc<KeyRights>,
        /// What responses to it are signed with.
        response_key: Arc<ResponseKey>,
    },
    /// A person with a token from an issuer.
    Person(Person),
}

/// A person as the issuer's token describes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their tenant: nothing of another one exists for them.
    pub tenant: TenantId,
    /// The token's `sub`; with several issuers the issuer's name and `|` before it.
    pub id: String,
    /// The token's `name`.
    pub name: Option<String>,
    /// The token's `email`.
    pub email: Option<String>,
    /// May decide.
    pub is_operator: bool,
    /// May administer their tenant.
    pub is_admin: bool,
    /// May see to tenants. No role implies another.
    pub is_owner: bool,
    /// The groups of the token.
    pub groups: Vec<String>,
    /// The id and the token's `sub`, `email` and `preferred_username`, in lower case.
    pub known_as: Vec<String>,
}

impl Person {
    /// What is noted of an operator.
    #[must_use]
    pub fn seen(&self) -> OperatorSeen<'_> {
        OperatorSeen {
            tenant: &self.tenant,
            id: &self.id,
            name: self.name.as_deref(),
            email: self.email.as_deref(),
            groups: &self.groups,
            known_as: &self.known_as,
        }
    }

    fn scope(self, kind: ActorKind) -> Scope {
        let actor = Actor { kind, id: self.id, name: self.name, acts_for: None };
        Scope { tenant: self.tenant, actor, known_as: self.known_as, groups: self.groups }
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

    fn tenant(&self) -> &TenantId {
        match self {
            Self::Agent { tenant, .. } => tenant,
            Self::Person(person) => &person.tenant,
        }
    }
}

/// A token that did not verify.
#[derive(Debug)]
pub struct Failed {
    /// [`Error::Unauthenticated`] with the reason for the log; [`Error::Forbidden`] for a person who is blocked;
    /// [`Error::Unavailable`] where keys cannot be looked up.
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
    issuers: Issuers,
    verified: tokens::Verified,
    standing: standing::Standing,
}

impl Authenticator {
    /// An authenticator with empty caches. People are looked up and noted by their functions' store, if there is one.
    #[must_use]
    pub fn new(
        rules: TokenRules,
        store: Store,
        people_store: Option<Store>,
        issuers: Issuers,
        masters: Arc<MasterSecrets>,
    ) -> Self {
        let clock = store.clock().clone();
        let standing = standing::Standing::new(store.clone(), people_store);
        let agent_keys = agent_keys::KeyRing::new(store, masters);
        Self { rules, clock, agent_keys, issuers, verified: tokens::Verified::default(), standing }
    }

    /// Who sends these headers.
    ///
    /// # Errors
    /// The token did not verify.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Principal>, Failed> {
        let token = bearer_token(headers)?;
        let now = self.clock.now();
        let principal = match self.verified.get(token, now) {
            Some(principal) => principal,
            // Boxed: what looks keys up is large, and each call would hold room for it until its end.
            None => Box::pin(self.verify(token, now)).await?,
        };
        let response_key = match &*principal {
            Principal::Agent { response_key, .. } => Some(response_key.clone()),
            Principal::Person(_) => None,
        };
        Box::pin(self.standing.of(principal, now)).await.map_err(|error| Failed { error, response_key })
    }

    /// Counts a submission of this agent key for its tenant's limit.
    ///
    /// # Errors
    /// [`Error::RateLimited`].
    pub fn count_submission(&self, caller: &Caller) -> Result<()> {
        match self.agent_keys.tenant_of(&caller.key_id) {
            Some(tenant) => self.standing.count_submission(&tenant, self.clock.now()),
            None => Ok(()),
        }
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
        let Some(issuer) = self.issuers.of(&unverified.claims.iss) else {
            self.rules.is_worth_a_key(&unverified.claims, now)?;
            return self.agent_keys.verify(token, &unverified, &self.rules, now).await;
        };
        let rules = issuer.rules(&self.rules);
        rules.is_worth_a_key(&unverified.claims, now)?;
        let (person, good) = self.issuers.verify(issuer, token, &unverified, &rules, now).await?;
        Ok((Principal::Person(person), good))
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
