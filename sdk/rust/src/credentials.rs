//! An agent's credentials: its key, and the secret that verifies responses to it.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::error::{Error, Result};
use crate::signature::Expected;

/// `aud` of tokens (contract, "Tokens").
const AUDIENCE: &str = "relaytrace";
/// How long a token of ours lives, in seconds; the contract allows 900.
const TOKEN_LIFETIME: u64 = 300;
/// Characters of a bearer key's secret.
const BEARER_SECRET: usize = 43;
/// A token is used while it has so long to live, in seconds.
const TOKEN_MARGIN: u64 = 60;

/// An agent's credentials; cheap to clone.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    agent_id: String,
    key_id: String,
    key: Key,
    secret: hmac::Key,
}

/// What a call proves its agent with.
enum Key {
    /// Signs short-lived tokens; the newest is kept with its expiry.
    Signing { key: EncodingKey, algorithm: Algorithm, token: Mutex<(String, u64)> },
    /// Sent as it is.
    Bearer(String),
}

/// Without the secrets.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({} of {})", self.0.key_id, self.0.agent_id)
    }
}

impl Credentials {
    /// Of an Ed25519 or P-256 key (PKCS#8 PEM), and the `response_secret` that registering it returned.
    ///
    /// # Errors
    /// [`Error::Configuration`] where the key or the secret cannot be read.
    pub fn new(agent_id: &str, key_id: &str, private_key_pem: &str, response_secret: &str) -> Result<Self> {
        let pem = private_key_pem.as_bytes();
        let (key, algorithm) = EncodingKey::from_ed_pem(pem)
            .map(|key| (key, Algorithm::EdDSA))
            .or_else(|_| EncodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256)))
            .map_err(|_| Error::Configuration("the private key is no Ed25519 or P-256 key in PKCS#8 PEM".into()))?;
        Self::of(agent_id, key_id, Key::Signing { key, algorithm, token: Mutex::default() }, response_secret)
    }

    /// Of a bearer key (`rtk_<key_id>_<secret>`), and the `response_secret` that registering it returned.
    ///
    /// # Errors
    /// [`Error::Configuration`] where the key or the secret cannot be read.
    pub fn bearer(agent_id: &str, token: &str, response_secret: &str) -> Result<Self> {
        let is_url_safe = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        // The secret may hold underscores itself: it is told from the key's id by its length.
        let key_id = token
            .strip_prefix("rtk_")
            .and_then(|rest| rest.split_at_checked(rest.len().checked_sub(BEARER_SECRET + 1)?))
            .filter(|(key_id, secret)| {
                !key_id.is_empty() && secret.starts_with('_') && is_url_safe(secret) && token.is_ascii()
            })
            .map(|(key_id, _)| key_id)
            .ok_or_else(|| {
                let rule = "the token is no bearer key: it begins with rtk_ and has 43 characters at its end";
                Error::Configuration(rule.into())
            })?;
        Self::of(agent_id, key_id, Key::Bearer(token.to_owned()), response_secret)
    }

    fn of(agent_id: &str, key_id: &str, key: Key, response_secret: &str) -> Result<Self> {
        let secret = BASE64_STANDARD
            .decode(response_secret)
            .map_err(|_| Error::Configuration("the response secret is no standard base64".into()))?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Ok(Self(Arc::new(Inner { agent_id: agent_id.to_owned(), key_id: key_id.to_owned(), key, secret })))
    }

    /// The agent.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.0.agent_id
    }

    /// The key.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.0.key_id
    }

    /// The expected signature parameters of a response, for this method and nonce, at this second since the epoch.
    #[must_use]
    pub fn expected<'a>(&'a self, method: &'a str, nonce: &'a str, now: i64) -> Expected<'a> {
        Expected { method, nonce, key_id: &self.0.key_id, secret: &self.0.secret, now }
    }

    /// A token that is good for some time yet.
    pub(crate) fn token(&self, now: u64) -> Result<String> {
        let kept = match &self.0.key {
            Key::Bearer(token) => return Ok(token.clone()),
            Key::Signing { token, .. } => token,
        };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Also where the clock was set back: a token from the future is not accepted.
        if now + TOKEN_MARGIN < kept.1 && kept.1 <= now + TOKEN_LIFETIME {
            return Ok(kept.0.clone());
        }
        let token = self.sign_token(now, TOKEN_LIFETIME)?;
        *kept = (token.clone(), now + TOKEN_LIFETIME);
        Ok(token)
    }

    /// A new token that is good from `now`, in seconds since the epoch, for `lifetime` seconds, at most 900. A bearer key
    /// is its own token.
    ///
    /// # Errors
    /// [`Error::Configuration`] where the key cannot sign.
    pub fn sign_token(&self, now: u64, lifetime: u64) -> Result<String> {
        let Inner { agent_id, key_id, key, .. } = &*self.0;
        let (key, algorithm) = match key {
            Key::Bearer(token) => return Ok(token.clone()),
            Key::Signing { key, algorithm, .. } => (key, algorithm),
        };
        let claims = json!({"iss": agent_id, "sub": agent_id, "aud": AUDIENCE, "iat": now, "exp": now + lifetime});
        let header = Header { kid: Some(key_id.clone()), ..Header::new(*algorithm) };
        jsonwebtoken::encode(&header, &claims, key)
            .map_err(|error| Error::Configuration(format!("no token can be signed: {error}")))
    }
}
