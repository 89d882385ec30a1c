//! Rules for tokens (contract, "Tokens"), and the cache of verified ones.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Principal;
use relaytrace_domain::{Error, Result};

/// A deployment's rules for tokens.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// The `aud` of every token.
    pub audience: String,
    /// Longest `exp` − `iat` of an agent's token, in seconds.
    pub max_lifetime_seconds: i64,
    /// How far clocks may differ, in seconds.
    pub leeway_seconds: i64,
}

/// What a token says before anything of it is believed: where its key is to be looked for, and whether that is worth
/// it. Look-ups cost, and strangers can write tokens.
pub(super) struct Unverified {
    pub header: Header,
    pub key_id: String,
    pub claims: Claims,
}

/// The registered claims that every token has (RFC 7519, section 4.1).
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub iss: String,
    pub sub: String,
    aud: Audience,
    #[serde(flatten)]
    pub times: Times,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The times of a token, as seconds since the epoch.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Times {
    pub exp: f64,
    pub nbf: Option<f64>,
    pub iat: Option<f64>,
}

impl Unverified {
    pub(super) fn read(token: &str) -> Result<Self> {
        let header =
            jsonwebtoken::decode_header(token).map_err(|_| Error::Unauthenticated("the header is no JOSE header"))?;
        if header.crit.is_some() {
            return Err(Error::Unauthenticated("crit is not supported"));
        }
        let key_id = header.kid.clone().ok_or(Error::Unauthenticated("no kid"))?;
        let claims = insecure_decode_claims(token)
            .map_err(|_| Error::Unauthenticated("iss, sub, aud or exp is missing, or a time is not a number"))?;
        Ok(Self { header, key_id, claims })
    }
}

impl TokenRules {
    /// Refuses a token that no key could make a good one: for someone else, or not of this time.
    pub(super) fn is_worth_a_key(&self, claims: &Claims, now: DateTime<Utc>) -> Result<()> {
        let is_for_us = match &claims.aud {
            Audience::One(audience) => *audience == self.audience,
            Audience::Several(audiences) => audiences.contains(&self.audience),
        };
        if !is_for_us {
            return Err(Error::Unauthenticated("the audience is another"));
        }
        let times = &claims.times;
        #[expect(clippy::cast_precision_loss, reason = "whole seconds of this age are exact")]
        let (now, leeway) = (now.timestamp() as f64, self.leeway_seconds as f64);
        if times.exp <= now - leeway {
            return Err(Error::Unauthenticated("the token has expired"));
        }
        if times.nbf.is_some_and(|nbf| nbf > now + leeway) {
            return Err(Error::Unauthenticated("the token is not valid yet"));
        }
        if times.iat.is_some_and(|iat| iat > now + leeway) {
            return Err(Error::Unauthenticated("the token was issued in the future"));
        }
        Ok(())
    }

    /// Verifies the signature by this key and algorithm, and issuer and audience with it. The algorithm is the caller's
    /// choice, never the token's. The times were compared before, by [`Self::is_worth_a_key`].
    pub(super) fn verify<T: DeserializeOwned>(
        &self,
        token: &str,
        key: &DecodingKey,
        alg: Algorithm,
        issuer: &str,
    ) -> Result<T> {
        let mut validation = Validation::new(alg);
        validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[&self.audience]);
        // By the clock that tests can move.
        validation.validate_exp = false;
        let verified = jsonwebtoken::decode::<T>(token, key, &validation)
            .map_err(|_| Error::Unauthenticated("the signature, issuer or audience is wrong or a claim is missing"))?;
        Ok(verified.claims)
    }

    /// From and until when a token with these times is good.
    pub(super) fn validity(&self, times: &Times) -> Validity {
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and what is out of range is out of time")]
        let seconds = |seconds: f64, leeway: i64| DateTime::from_timestamp((seconds as i64).saturating_add(leeway), 0);
        let from = times.nbf.into_iter().chain(times.iat).fold(f64::NEG_INFINITY, f64::max);
        Validity {
            from: seconds(from.ceil(), -self.leeway_seconds).unwrap_or(DateTime::<Utc>::MIN_UTC),
            until: seconds(times.exp, self.leeway_seconds).unwrap_or(DateTime::<Utc>::MAX_UTC),
        }
    }
}

/// Tokens that verified, by their SHA-256: an Ed25519 check for each request would be most of its CPU.
#[derive(Debug)]
pub(super) struct Verified(Cache<[u8; 32], (Arc<Principal>, Validity)>);

/// When a token is good: the clock is asked at each use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    /// By its `nbf` and `iat`, and the leeway.
    pub from: DateTime<Utc>,
    /// By its `exp` and the leeway; from then on it is refused.
    pub until: DateTime<Utc>,
}

impl Default for Verified {
    fn default() -> Self {
        /// Tokens remembered at the most.
        const CAPACITY: usize = 20_000;
        Self(Cache::new(CAPACITY))
    }
}

impl Verified {
    /// How long it is believed without looking at the keys again: a revoked key is dead within 60 s everywhere, in a
    /// process that was frozen too, because the wall clock is asked.
    const BELIEVED_FOR: TimeDelta = TimeDelta::seconds(30);

    pub(super) fn get(&self, token: &str, now: DateTime<Utc>) -> Option<Arc<Principal>> {
        let (principal, good) = self.0.get(&Self::key(token))?;
        (good.from <= now && now < good.until).then_some(principal)
    }

    pub(super) fn insert(&self, token: &str, principal: Arc<Principal>, now: DateTime<Utc>, good: Validity) {
        let until = good.until.min(now + Self::BELIEVED_FOR);
        self.0.insert(Self::key(token), (principal, Validity { until, ..good }));
    }

    fn key(token: &str) -> [u8; 32] {
        relaytrace_domain::Digest::of(token.as_bytes()).0
    }
}
