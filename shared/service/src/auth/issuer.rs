//! An issuer of people's tokens, and its keys.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::issuer_keys::Remote;
use super::tokens::{TokenRules, Unverified};
use relaytrace_domain::{Error, Result, TenantId};

/// An issuer of people's tokens.
#[derive(Debug)]
pub struct Issuer {
    iss: String,
    source: Source,
    binding: Binding,
}

/// What the deployment says of an issuer.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    /// Before the `sub` in the ids of its people, where there are several issuers.
    pub name: String,
    /// The `aud` of its tokens; `None`: the deployment's.
    pub audience: Option<String>,
    /// The only tenant that it speaks for; `None`: its tokens name one.
    pub tenant: Option<TenantId>,
    /// Whether it may say who is an owner.
    pub owners: bool,
}

#[derive(Debug)]
enum Source {
    /// Keys given with the configuration.
    Pinned(Arc<IssuerKeys>),
    /// Keys fetched from the issuer.
    Remote(Arc<Remote>),
}

/// The keys of a JWK set (RFC 7517) that may verify signatures.
#[derive(Clone, Debug, Default)]
pub struct IssuerKeys(Vec<Jwk>);

impl IssuerKeys {
    /// Reads a JWK set. Keys of a kind that we do not know are left out: an issuer may have them for others.
    ///
    /// # Errors
    /// It is no JWK set.
    pub fn parse(text: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text)?;
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        Ok(Self(keys.filter(may_verify).collect()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one has this kid.
    pub(super) fn has(&self, key_id: &str) -> bool {
        self.candidates(key_id).next().is_some()
    }

    /// Those with this kid: a kid need not be unique in its set, as where one key encrypts and another signs.
    fn candidates(&self, key_id: &str) -> impl Iterator<Item = &Jwk> {
        self.0.iter().filter(move |key| key.common.key_id.as_deref() == Some(key_id))
    }
}

/// By its kind, and by its `use` and `key_ops` where it has them.
fn may_verify(key: &Jwk) -> bool {
    let is_for_signatures = key.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let operations = key.common.key_operations.as_ref();
    is_for_signatures
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
        && DecodingKey::from_jwk(key).is_ok()
}

impl Issuer {
    /// An issuer whose keys are given.
    #[must_use]
    pub fn pinned(iss: String, keys: IssuerKeys) -> Self {
        Self { iss, source: Source::Pinned(Arc::new(keys)), binding: Binding::default() }
    }

    /// An issuer whose keys are fetched when they are first needed.
    ///
    /// # Errors
    /// [`Error::Internal`] where no TLS client can be built.
    pub fn remote(iss: String, url: Url) -> Result<Self> {
        let remote = Remote::new(url)?;
        Ok(Self { iss, source: Source::Remote(Arc::new(remote)), binding: Binding::default() })
    }

    /// The same issuer, of which the deployment says this.
    #[must_use]
    pub fn bound(self, binding: Binding) -> Self {
        Self { binding, ..self }
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn iss(&self) -> &str {
        &self.iss
    }

    pub(super) fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The rules for its tokens.
    pub(super) fn rules(&self, of_all: &TokenRules) -> TokenRules {
        let audience = self.binding.audience.as_ref().unwrap_or(&of_all.audience).clone();
        TokenRules { audience, ..of_all.clone() }
    }

    /// The claims of a token that one of its keys has signed.
    pub(super) async fn verify(
        &self,
        token: &str,
        unverified: &Unverified,
        rules: &TokenRules,
        now: DateTime<Utc>,
    ) -> Result<Value> {
        let keys = match &self.source {
            Source::Pinned(keys) => keys.clone(),
            Source::Remote(remote) => remote.keys_for(&unverified.key_id, now).await?,
        };
        let mut verified = Err(Error::Unauthenticated("the kid is not among the issuer's keys"));
        for key in keys.candidates(&unverified.key_id) {
            verified = self.verify_by(key, token, unverified.header.alg, rules);
            if verified.is_ok() {
                break;
            }
        }
        verified
    }

    fn verify_by(&self, key: &Jwk, token: &str, claimed: Algorithm, rules: &TokenRules) -> Result<Value> {
        let alg = algorithm(key, claimed)?;
        let key = DecodingKey::from_jwk(key).map_err(|_| Error::Unauthenticated("the issuer's key is of no use"))?;
        rules.verify(token, &key, alg, &self.iss)
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_do_not_verify_or_are_not_known_are_left_out() {
        let okp =
            json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "k"});
        let with = |name: &str, value: Value| {
            let mut key = okp.clone();
            key[name] = value;
            key
        };
        let set = json!({"keys": [
            with("use", json!("enc")), with("key_ops", json!(["sign"])), with("use", json!("sig")), okp,
            {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "other kind"}, {"kty": "new"}, 7,
        ]});
        let keys = IssuerKeys::parse(set.to_string().as_bytes()).unwrap();
        assert_eq!(keys.candidates("k").count(), 2);
        assert!(keys.has("k") && !keys.has("other"));
        assert!(IssuerKeys::parse(b"{}").is_err());
    }
}
