//! Agents' public keys: their form, and the cache of looked-up keys.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey};
use quick_cache::sync::Cache;
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::bearer;
use super::response_secret::{MasterSecrets, ResponseKey};
use super::tokens::{Claims, TokenRules, Unverified, Validity};
use super::{Failed, Principal};
use relaytrace_domain::{AgentId, KeyId, KeyRights, TenantId};
use relaytrace_domain::{Error, Result};
use relaytrace_store::{AgentKey, Caller, Store};

/// How an agent's key is used. The stored key says it; nothing in a token can choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, deserr::Deserr, utoipa::ToSchema)]
pub enum KeyAlg {
    /// Ed25519, RFC 8037.
    #[serde(rename = "EdDSA")]
    #[deserr(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256 with SHA-256, RFC 7518 section 3.4.
    #[serde(rename = "ES256")]
    #[deserr(rename = "ES256")]
    Es256,
    /// An opaque secret that is sent as it is.
    #[serde(rename = "bearer")]
    #[deserr(rename = "bearer")]
    Bearer,
}

impl KeyAlg {
    /// As tokens and the database write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Bearer => "bearer",
        }
    }

    fn from_column(alg: &str) -> Result<Self> {
        match alg {
            "EdDSA" => Ok(Self::EdDsa),
            "ES256" => Ok(Self::Es256),
            "bearer" => Ok(Self::Bearer),
            _ => Err(Error::internal(anyhow::anyhow!("a stored key has an unknown algorithm"))),
        }
    }
}

/// A public key as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Its algorithm.
    pub alg: KeyAlg,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

impl PublicKey {
    /// Parses SPKI PEM (RFC 7468, section 13) and checks that the key is one of this algorithm's.
    ///
    /// # Errors
    /// A sentence for the administrator.
    pub fn from_pem(alg: KeyAlg, text: &str) -> Result<Self, &'static str> {
        let pem = pem::parse(text).map_err(|_| "is not PEM")?;
        if pem.tag() != "PUBLIC KEY" {
            return Err("must be a PEM block PUBLIC KEY (SubjectPublicKeyInfo)");
        }
        let algorithm: &'static dyn VerificationAlgorithm = match alg {
            KeyAlg::EdDsa => &ED25519,
            KeyAlg::Es256 => &ECDSA_P256_SHA256_FIXED,
            KeyAlg::Bearer => return Err("does not go with the alg bearer"),
        };
        ParsedPublicKey::new(algorithm, pem.contents()).map_err(|_| "is not a public key of this alg")?;
        Ok(Self { alg, spki: pem.into_contents() })
    }
}

/// What a key is verified by.
enum Verifies {
    Signature(Algorithm, DecodingKey),
    /// The SHA-256 of a bearer token.
    Digest(Vec<u8>),
}

struct KnownKey {
    agent_id: AgentId,
    tenant: TenantId,
    verifies: Verifies,
    rights: Arc<KeyRights>,
    expires_at: Option<DateTime<Utc>>,
    response_key: Arc<ResponseKey>,
    looked_up_at: DateTime<Utc>,
}

/// Keys that were looked up. What never changes about a key is remembered; whether it is active is asked again after
/// [`KeyRing::REMEMBERED_FOR`], and anyway in each statement that an agent's call sends.
pub(super) struct KeyRing {
    store: Store,
    masters: Arc<MasterSecrets>,
    known: Cache<KeyId, Arc<KnownKey>>,
    /// Names that no key had a moment ago.
    unknown: Cache<KeyId, Instant>,
    /// Places for looking up keys that are not known: strangers' tokens take no more connections than these.
    lookups: Semaphore,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

/// A key that was found, and whether that is still so.
enum Found {
    /// It is active; `true`: no token of it has verified yet.
    Active(Arc<KnownKey>, bool),
    /// It was, and cannot be asked about.
    OutOfReach(Arc<KnownKey>, Error),
}

impl Found {
    fn key(&self) -> &KnownKey {
        let (Self::Active(key, _) | Self::OutOfReach(key, _)) = self;
        key
    }
}

impl KeyRing {
    const CAPACITY: usize = 10_000;
    const REMEMBERED_FOR: TimeDelta = TimeDelta::seconds(30);
    /// A key that is registered works everywhere so soon after a token came too early.
    const UNKNOWN_FOR: Duration = Duration::from_secs(2);
    const LOOKUPS: usize = 4;
    /// Longest wait for a place to look a key up.
    const PATIENCE: Duration = Duration::from_secs(1);

    pub(super) fn new(store: Store, masters: Arc<MasterSecrets>) -> Self {
        let (known, unknown) = (Cache::new(Self::CAPACITY), Cache::new(Self::CAPACITY));
        Self { store, masters, known, unknown, lookups: Semaphore::new(Self::LOOKUPS) }
    }

    /// The tenant of a key whose token has just verified.
    pub(super) fn tenant_of(&self, key_id: &KeyId) -> Option<TenantId> {
        self.known.get(key_id).map(|key| key.tenant.clone())
    }

    pub(super) async fn verify(
        &self,
        token: &str,
        unverified: &Unverified,
        rules: &TokenRules,
        now: DateTime<Utc>,
    ) -> Result<(Principal, Validity), Failed> {
        let Unverified { header, key_id, claims } = unverified;
        let key_id: KeyId = key_id.parse().map_err(|_| Error::Unauthenticated("the kid is no key_id"))?;
        is_an_agents(header.alg, claims, rules)?;
        let found = self.key(&key_id, now).await?;
        let key = found.key();
        let Verifies::Signature(alg, decoding) = &key.verifies else {
            return Err(Error::Unauthenticated("the kid names a bearer key").into());
        };
        if header.alg != *alg {
            return Err(Error::Unauthenticated("the alg is not the key's").into());
        }
        if claims.sub != key.agent_id.as_str() {
            return Err(Error::Unauthenticated("sub is not the key's agent").into());
        }
        rules.verify::<IgnoredAny>(token, decoding, *alg, key.agent_id.as_str())?;
        self.admit(found, key_id, rules.validity(&claims.times)).await
    }

    /// Verifies the token of a bearer key.
    pub(super) async fn verify_bearer(&self, token: &str, now: DateTime<Utc>) -> Result<(Principal, Validity), Failed> {
        let key_id = bearer::key_id_of(token)?;
        let found = self.key(&key_id, now).await?;
        let Verifies::Digest(digest) = &found.key().verifies else {
            return Err(Error::Unauthenticated("the key is not a bearer key").into());
        };
        if !bearer::is_token_of(token, digest) {
            return Err(Error::Unauthenticated("the secret is not the key's").into());
        }
        self.admit(found, key_id, Validity { from: DateTime::<Utc>::MIN_UTC, until: DateTime::<Utc>::MAX_UTC }).await
    }

    /// The agent whose token verified.
    async fn admit(&self, found: Found, key_id: KeyId, good: Validity) -> Result<(Principal, Validity), Failed> {
        match found {
            Found::OutOfReach(key, error) => Err(Failed { error, response_key: Some(key.response_key.clone()) }),
            Found::Active(key, is_first_use) => {
                // Remembered once its first use is on record, so that the record cannot be skipped.
                if is_first_use {
                    self.store.mark_key_used(&key_id).await?;
                    self.known.insert(key_id.clone(), key.clone());
                }
                let caller = Caller { agent_id: key.agent_id.clone(), key_id };
                let (rights, response_key, tenant) = (key.rights.clone(), key.response_key.clone(), key.tenant.clone());
                let until = key.expires_at.map_or(good.until, |expires_at| expires_at.min(good.until));
                Ok((Principal::Agent { caller, tenant, rights, response_key }, Validity { until, ..good }))
            }
        }
    }

    async fn key(&self, key_id: &KeyId, now: DateTime<Utc>) -> Result<Found> {
        if self.masters.is_empty() {
            return Err(Error::Unauthenticated("this function has no master secret and knows no agents"));
        }
        let found = self.look_up(key_id, now).await?;
        if found.key().expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(Error::Unauthenticated("the key has expired"));
        }
        Ok(found)
    }

    async fn look_up(&self, key_id: &KeyId, now: DateTime<Utc>) -> Result<Found> {
        let known = self.known.get(key_id);
        if let Some(known) = &known
            && now - known.looked_up_at < Self::REMEMBERED_FOR
        {
            return Ok(Found::Active(known.clone(), false));
        }
        let found = match &known {
            Some(_) => self.store.agent_key(key_id).await,
            None => self.look_up_unknown(key_id).await,
        };
        let key = match (found.map_err(Error::into_unavailable), known) {
            (Ok(key), _) => key,
            (Err(error), Some(known)) => return Ok(Found::OutOfReach(known, error)),
            (Err(error), None) => return Err(error),
        };
        let Some(key) = key else {
            self.unknown.insert(key_id.clone(), Instant::now());
            return Err(Error::Unauthenticated("the kid is not known"));
        };
        if !key.active {
            self.known.remove(key_id);
            return Err(Error::Unauthenticated("the key is revoked or its agent disabled"));
        }
        let rights = Arc::new(key.rights());
        let verifies = match KeyAlg::from_column(&key.alg)? {
            KeyAlg::EdDsa => Verifies::Signature(Algorithm::EdDSA, DecodingKey::from_ed_der(&key.public_key)),
            KeyAlg::Es256 => Verifies::Signature(Algorithm::ES256, DecodingKey::from_ec_der(&key.public_key)),
            KeyAlg::Bearer => Verifies::Digest(key.public_key),
        };
        let response_key = Arc::new(self.masters.response_key(&key.master_id, &key.agent_id, key_id)?);
        let (agent_id, tenant, expires_at) = (key.agent_id, key.tenant_id, key.expires_at);
        let known = KnownKey { agent_id, tenant, verifies, rights, expires_at, response_key, looked_up_at: now };
        let known = Arc::new(known);
        if key.used {
            self.known.insert(key_id.clone(), known.clone());
        }
        Ok(Found::Active(known, !key.used))
    }

    /// Looks up what any stranger may have made up.
    async fn look_up_unknown(&self, key_id: &KeyId) -> Result<Option<AgentKey>> {
        let is_unknown = || self.unknown.get(key_id).is_some_and(|at| at.elapsed() < Self::UNKNOWN_FOR);
        if is_unknown() {
            return Ok(None);
        }
        let place = tokio::time::timeout(Self::PATIENCE, self.lookups.acquire()).await;
        let _place = place.map_err(|_| Error::Unavailable(anyhow::anyhow!("too many unknown keys are looked up")))?;
        if is_unknown() {
            return Ok(None);
        }
        self.store.agent_key(key_id).await
    }
}

/// Refuses a token that no registered key could make an agent's (contract, "Agents").
fn is_an_agents(alg: Algorithm, claims: &Claims, rules: &TokenRules) -> Result<()> {
    if !matches!(alg, Algorithm::EdDSA | Algorithm::ES256) {
        return Err(Error::Unauthenticated("the alg is no agent's"));
    }
    if claims.iss != claims.sub || claims.sub.parse::<AgentId>().is_err() {
        return Err(Error::Unauthenticated("iss and sub are not one agent_id"));
    }
    let iat = claims.times.iat.ok_or(Error::Unauthenticated("no iat"))?;
    #[expect(clippy::cast_precision_loss, reason = "minutes")]
    if claims.times.exp - iat > rules.max_lifetime_seconds as f64 {
        return Err(Error::Unauthenticated("the token lives too long"));
    }
    Ok(())
}
