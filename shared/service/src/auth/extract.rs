//! Authority as a parameter type: [`Agent`], [`Operator`], [`Admin`], [`Owner`], [`SignedIn`].

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use super::{Failed, Person, Principal, ResponseKey};
use relaytrace_domain::{ActorKind, KeyScope};
use relaytrace_domain::{Error, Faults, Result};
use relaytrace_store::{Caller, Scope};

/// What the edge found out about the caller; an extension of every request.
#[derive(Clone, Debug)]
pub enum Identity {
    /// The token verified.
    Known(Arc<Principal>),
    /// It did not, for this reason; the log's business only.
    Unknown(&'static str),
    /// It did, and its person may do nothing, for this reason.
    Refused(&'static str),
    /// It could not be looked at: keys were out of reach. An agent whose key is known gets a signed answer.
    Undecided(Arc<Error>, Option<Arc<ResponseKey>>),
}

impl Identity {
    /// The caller, if the token verified.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Known(principal) => Some(principal),
            Self::Unknown(_) | Self::Refused(_) | Self::Undecided(..) => None,
        }
    }

    /// What the answer is signed with.
    pub(crate) fn response_key(&self) -> Option<&Arc<ResponseKey>> {
        match self {
            Self::Known(principal) => match &**principal {
                Principal::Agent { response_key, .. } => Some(response_key),
                Principal::Person(_) => None,
            },
            Self::Undecided(_, response_key) => response_key.as_ref(),
            Self::Unknown(_) | Self::Refused(_) => None,
        }
    }

    fn require(parts: &Parts) -> Result<&Principal> {
        match parts.extensions.get::<Self>() {
            Some(Self::Known(principal)) => Ok(principal),
            Some(Self::Unknown(reason)) => Err(Error::Unauthenticated(reason)),
            Some(Self::Refused(reason)) => Err(Error::Forbidden(reason)),
            Some(Self::Undecided(error, _)) => Err(Error::Unavailable(error.clone().into())),
            None => Err(Error::Unauthenticated("no token")),
        }
    }
}

/// Faults of the form of a call's query; an extension of such a request. They are answered after the check of the role
/// and before any other check, so that a caller without the role learns nothing of the route's parameters.
#[derive(Clone, Debug)]
pub(crate) struct BadQuery(pub(crate) Faults);

fn well_asked(parts: &mut Parts) -> Result<()> {
    parts.extensions.remove::<BadQuery>().map_or(Ok(()), |BadQuery(faults)| Err(faults.into()))
}

impl From<Result<Arc<Principal>, Failed>> for Identity {
    fn from(found: Result<Arc<Principal>, Failed>) -> Self {
        match found {
            Ok(principal) => Self::Known(principal),
            Err(Failed { error: Error::Unauthenticated(reason), .. }) => Self::Unknown(reason),
            Err(Failed { error: Error::Forbidden(reason), .. }) => Self::Refused(reason),
            Err(Failed { error, response_key }) => Self::Undecided(Arc::new(error), response_key),
        }
    }
}

/// A registered agent whose key has the scope `S`. Where the path names an `agent_id`, it is this one.
///
/// There is no agent without a scope, so that no route can forget to ask for one.
#[derive(Clone, Debug)]
pub struct Agent<S>(pub Caller, pub PhantomData<S>);

/// The scope that a route asks of its caller's key (contract, "Scopes of keys").
pub trait AsksFor {
    /// The scope.
    const SCOPE: KeyScope;
    /// What a caller without it is told.
    const REFUSAL: &str;
}

macro_rules! scopes {
    ($($name:ident $text:literal),+ $(,)?) => {$(
        #[doc = concat!("The scope `", $text, "`.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl AsksFor for $name {
            const SCOPE: KeyScope = KeyScope::$name;
            const REFUSAL: &str = concat!("the key does not have the scope ", $text);
        }
    )+};
}

scopes!(Ask "ask", Execute "execute", ExecuteAny "execute-any", Hook "hook", Provision "provision");

/// A person with the role `operator`.
#[derive(Clone, Debug)]
pub struct Operator(pub Scope);

/// A person with the role `admin`.
#[derive(Clone, Debug)]
pub struct Admin(pub Scope);

/// A person with the role `owner`, from an issuer that may say so.
#[derive(Clone, Debug)]
pub struct Owner(pub Scope);

/// A person with the role `operator` or `admin`: an administrator where they have that role, whom no rule binds.
#[derive(Clone, Debug)]
pub struct Colleague(pub Scope);

/// A person with any roles.
#[derive(Clone, Debug)]
pub struct SignedIn(pub Person);

impl<S: Sync> FromRequestParts<S> for Colleague {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let has = |person: &Person| person.is_operator || person.is_admin;
        let mut scope = person_with(parts, ActorKind::Operator, "the role operator or admin is needed", has)?;
        if matches!(Identity::require(parts)?, Principal::Person(person) if person.is_admin) {
            scope.actor.kind = ActorKind::Admin;
        }
        Ok(Self(scope))
    }
}

impl<S: Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let Principal::Person(person) = Identity::require(parts)? else {
            return Err(Error::Forbidden("only people may do this"));
        };
        let person = person.clone();
        well_asked(parts)?;
        Ok(Self(person))
    }
}

impl<S: Send + Sync, A: AsksFor> FromRequestParts<S> for Agent<A> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let Principal::Agent { caller, rights, .. } = Identity::require(parts)? else {
            return Err(Error::Forbidden("only agents may do this"));
        };
        if !rights.scopes.contains(&A::SCOPE) {
            return Err(Error::Forbidden(A::REFUSAL));
        }
        let caller = caller.clone();
        let path = RawPathParams::from_request_parts(parts, state).await.map_err(|_| Error::NotFound)?;
        if path.iter().any(|(name, value)| name == "agent_id" && value != caller.agent_id.as_str()) {
            return Err(Error::Forbidden("the token is another agent's"));
        }
        well_asked(parts)?;
        Ok(Self(caller, PhantomData))
    }
}

/// The person, where they have the role.
fn person_with(parts: &mut Parts, kind: ActorKind, refusal: &'static str, has: fn(&Person) -> bool) -> Result<Scope> {
    let scope = match Identity::require(parts)? {
        Principal::Person(person) if has(person) => person.clone().scope(kind),
        _ => return Err(Error::Forbidden(refusal)),
    };
    well_asked(parts)?;
    Ok(scope)
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        person_with(parts, ActorKind::Operator, "the role operator is needed", |person| person.is_operator).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        person_with(parts, ActorKind::Admin, "the role admin is needed", |person| person.is_admin).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Owner {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        person_with(parts, ActorKind::Owner, "the role owner is needed", |person| person.is_owner).map(Self)
    }
}
