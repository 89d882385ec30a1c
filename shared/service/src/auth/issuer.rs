//! Operators' and administrators' tokens: the person, the roles and the groups that they name.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::issuer_keys::Remote;
use super::tokens::{TokenRules, Unverified, Validity};
use super::{Person, Principal};
use relaytrace_domain::{Error, Result, without_case};

/// The issuer of people's tokens.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    source: Source,
    places: ClaimPlaces,
}

#[derive(Debug)]
enum Source {
    /// Keys given with the configuration.
    Pinned(Arc<IssuerKeys>),
    /// Keys fetched from the issuer.
    Remote(Arc<Remote>),
}

/// Where a token has what we ask of it: RFC 6901 pointers into its claims.
#[derive(Clone, Debug)]
pub struct ClaimPlaces {
    /// The roles, a list or one text with spaces between them.
    pub roles: String,
    /// The groups, likewise.
    pub groups: String,
}

impl Default for ClaimPlaces {
    fn default() -> Self {
        Self { roles: "/roles".into(), groups: "/groups".into() }
    }
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
    pub fn pinned(name: String, keys: IssuerKeys) -> Self {
        Self { name, source: Source::Pinned(Arc::new(keys)), places: ClaimPlaces::default() }
    }

    /// An issuer whose keys are fetched when they are first needed.
    ///
    /// # Errors
    /// [`Error::Internal`] where no TLS client can be built.
    pub fn remote(name: String, url: Url) -> Result<Self> {
        let remote = Remote::new(url)?;
        Ok(Self { name, source: Source::Remote(Arc::new(remote)), places: ClaimPlaces::default() })
    }

    /// The same issuer, whose tokens have their roles and groups elsewhere.
    #[must_use]
    pub fn with_places(self, places: ClaimPlaces) -> Self {
        Self { places, ..self }
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
        let person = self.person(&verified?)?;
        Ok((Principal::Person(person), rules.validity(&unverified.claims.times)))
    }

    fn verify_by(&self, key: &Jwk, token: &str, claimed: Algorithm, rules: &TokenRules) -> Result<Value> {
        let alg = algorithm(key, claimed)?;
        let key = DecodingKey::from_jwk(key).map_err(|_| Error::Unauthenticated("the issuer's key is of no use"))?;
        rules.verify(token, &key, alg, &self.name)
    }

    /// The person that these claims describe. A shape that is not a role's is no role, not a wrong token.
    fn person(&self, claims: &Value) -> Result<Person> {
        let text = |name| claims.get(name).and_then(Value::as_str);
        let (id, name) = (text("sub").unwrap_or_default(), text("name"));
        if id.is_empty() || [Some(id), name].into_iter().flatten().any(|text| text.contains('\0')) {
            return Err(Error::Unauthenticated("sub or name cannot be stored"));
        }
        let roles = list_of(claims.pointer(&self.places.roles));
        let has_role = |name: &str| roles.iter().any(|role| role == name);
        Ok(Person {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            is_operator: has_role("operator"),
            is_admin: has_role("admin"),
            groups: list_of(claims.pointer(&self.places.groups)),
            known_as: [Some(id), text("email"), text("preferred_username")]
                .into_iter()
                .flatten()
                // No envelope can name what cannot be stored.
                .filter(|name| !name.contains('\0'))
                .map(without_case)
                .collect(),
        })
    }
}

/// A list of texts, or one text with spaces between its parts; any other shape is an empty list (contract, "Operators
/// and administrators").
fn list_of(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(items)) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().unwrap_or_default()
        }
        _ => Vec::new(),
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
    fn roles_are_a_list_or_one_text_and_nothing_else() {
        for (claim, roles) in [
            (json!(["operator", "admin"]), vec!["operator", "admin"]),
            (json!("operator  admin"), vec!["operator", "admin"]),
            (json!("operator"), vec!["operator"]),
            (json!(["operator", 7]), vec![]),
            (json!(null), vec![]),
            (json!(7), vec![]),
            (json!({"operator": true}), vec![]),
            (json!(""), vec![]),
        ] {
            assert_eq!(list_of(Some(&claim)), roles, "{claim}");
        }
        assert!(list_of(None).is_empty());
    }

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
