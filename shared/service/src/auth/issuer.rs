//! Operators' and administrators' tokens: the configured issuer and its keys.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::tokens::{TokenRules, Unverified, Validity};
use super::{Person, Principal};
use relaytrace_domain::{Error, Result};

/// The issuer of people's tokens.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Keys given with the configuration.
    Pinned(JwkSet),
    /// Keys fetched from the issuer.
    Remote { url: Url, client: reqwest::Client, fetched: Mutex<Option<Fetched>> },
}

#[derive(Debug)]
struct Fetched {
    keys: Arc<JwkSet>,
    at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    name: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

impl Issuer {
    /// Fetched keys are used without asking again for so long.
    const FRESH_FOR: TimeDelta = TimeDelta::minutes(5);
    /// A kid that is not among them makes us ask again, at most this often.
    const ASK_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(10);
    const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

    /// An issuer whose keys are given.
    #[must_use]
    pub fn pinned(name: String, keys: JwkSet) -> Self {
        Self { name, source: Source::Pinned(keys) }
    }

    /// An issuer whose keys are fetched when they are first needed.
    ///
    /// # Errors
    /// [`Error::Internal`] where no TLS client can be built.
    pub fn remote(name: String, url: Url) -> Result<Self> {
        let client = reqwest::Client::builder()
            .https_only(true)
            .timeout(Self::FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Error::internal)?;
        Ok(Self { name, source: Source::Remote { url, client, fetched: Mutex::default() } })
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn verify(
        &self,
        token: &str,
        unverified: &Unverified,
        rules: &TokenRules,
        now: DateTime<Utc>,
    ) -> Result<(Principal, Validity)> {
        let jwk = self.key(&unverified.key_id, now).await?;
        let alg = algorithm(&jwk, unverified.header.alg)?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| Error::Unauthenticated("the issuer's key is of no use"))?;
        let (claims, times): (Claims, _) = rules.verify(token, &key, alg, &self.name, now)?;
        let has_role = |name: &str| claims.roles.iter().any(|role| role == name);
        let (is_operator, is_admin) = (has_role("operator"), has_role("admin"));
        if claims.sub.is_empty()
            || [Some(&claims.sub), claims.name.as_ref()].into_iter().flatten().any(|text| text.contains('\0'))
        {
            return Err(Error::Unauthenticated("sub or name cannot be stored"));
        }
        let person = Person { id: claims.sub, name: claims.name, is_operator, is_admin };
        Ok((Principal::Person(person), rules.validity(&times)))
    }

    async fn key(&self, key_id: &str, now: DateTime<Utc>) -> Result<Jwk> {
        let unknown = Error::Unauthenticated("the kid is not among the issuer's keys");
        match &self.source {
            Source::Pinned(keys) => keys.find(key_id).cloned().ok_or(unknown),
            Source::Remote { url, client, fetched } => {
                // Held while fetching: a burst of tokens asks once.
                let mut fetched = fetched.lock().await;
                let stale = fetched.as_ref().is_none_or(|fetched| {
                    let age = now - fetched.at;
                    age >= Self::FRESH_FOR || (age >= Self::ASK_AGAIN_AFTER && fetched.keys.find(key_id).is_none())
                });
                if stale {
                    match fetch(client, url).await {
                        Ok(keys) => *fetched = Some(Fetched { keys: Arc::new(keys), at: now }),
                        // Keys that were good minutes ago are better than an outage of the issuer becoming ours.
                        Err(error) => match fetched.as_ref().and_then(|fetched| fetched.keys.find(key_id)) {
                            Some(_) => {
                                tracing::warn!(error = %error, "the issuer's keys cannot be fetched; using older ones");
                            }
                            None => return Err(Error::Unavailable(error)),
                        },
                    }
                }
                fetched.as_ref().and_then(|fetched| fetched.keys.find(key_id).cloned()).ok_or(unknown)
            }
        }
    }
}

async fn fetch(client: &reqwest::Client, url: &Url) -> anyhow::Result<JwkSet> {
    Ok(client.get(url.clone()).send().await?.error_for_status()?.json().await?)
}

/// The algorithm that this key may be used with: asymmetric only, and the key's own where it names one.
fn algorithm(jwk: &Jwk, claimed: Algorithm) -> Result<Algorithm> {
    use jsonwebtoken::AlgorithmFamily::Hmac;
    let of_key = jwk.common.key_algorithm.map(|alg| alg.to_string().parse::<Algorithm>());
    match of_key {
        Some(Ok(alg)) if alg != claimed => Err(Error::Unauthenticated("the alg is not the key's")),
        Some(Err(_)) => Err(Error::Unauthenticated("the issuer's key does not sign")),
        _ if Hmac.algorithms().contains(&claimed) => Err(Error::Unauthenticated("the alg is symmetric")),
        _ => Ok(claimed),
    }
}
