//! A synthetic agent: an Ed25519 key, a token, and the secret that responses to it are verified with.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use relaytrace_client::signature::{Expected, Received};
use serde_json::json;

use crate::http::{Answer, Connection, bearer};
use crate::keys::NewKey;

/// The longest life that a token may have, in seconds.
const TOKEN_LIFETIME: u64 = 900;
/// A token younger than this is still good for a measurement.
const TOKEN_KEPT_FOR: u64 = 480;

/// A registered agent and one of its keys. Its first key has its own name.
pub struct Agent {
    pub id: String,
    pub key_id: String,
    key: EncodingKey,
    secret: hmac::Key,
    token: HeaderValue,
    token_made_at: u64,
}

impl Agent {
    /// Registers an agent and its key through the admin API.
    pub async fn register(connection: &mut Connection, admin: &HeaderValue, id: String) -> Result<Self> {
        let agent = connection.post("/v1/admin/agents", admin, &json!({"agent_id": id, "name": id})).await?;
        ensure!(agent.status.is_success(), "agent {id} was not registered: {}", String::from_utf8_lossy(&agent.body));
        let key_id = id.clone();
        Self::register_key(connection, admin, id, key_id).await
    }

    /// Registers another key of this agent: the same agent, signing with that.
    pub async fn with_new_key(&self, connection: &mut Connection, admin: &HeaderValue, key_id: &str) -> Result<Self> {
        Self::register_key(connection, admin, self.id.clone(), key_id.to_owned()).await
    }

    async fn register_key(
        connection: &mut Connection,
        admin: &HeaderValue,
        id: String,
        key_id: String,
    ) -> Result<Self> {
        let NewKey { pkcs8, public_pem } = NewKey::generate()?;
        let key = json!({"key_id": key_id, "alg": "EdDSA", "public_key": public_pem});
        let registered = connection.post(&format!("/v1/admin/agents/{id}/keys"), admin, &key).await?;
        registered.expect(StatusCode::CREATED)?;
        let registered = registered.json()?;
        let secret = registered["response_secret"].as_str().context("a registered key has no response_secret")?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(secret)?);

        let key = EncodingKey::from_ed_der(&pkcs8);
        let mut agent = Self { id, key_id, key, secret, token: HeaderValue::from_static(""), token_made_at: 0 };
        agent.refresh_token()?;
        Ok(agent)
    }

    /// Makes a new token, unless the one there is good for some minutes yet.
    pub fn refresh_token(&mut self) -> Result<()> {
        let now = get_current_timestamp();
        if now < self.token_made_at + TOKEN_KEPT_FOR {
            return Ok(());
        }
        let claims =
            json!({"iss": self.id, "sub": self.id, "aud": "relaytrace", "iat": now, "exp": now + TOKEN_LIFETIME});
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::EdDSA) };
        self.token = bearer(&encode(&header, &claims, &self.key)?)?;
        self.token_made_at = now;
        Ok(())
    }

    /// The header `Authorization`.
    pub fn token(&self) -> &HeaderValue {
        &self.token
    }

    /// Whether the response is the service's own.
    pub fn verify(&self, answer: &Answer, method: &Method, nonce: &str) -> Result<()> {
        let now = i64::try_from(get_current_timestamp())?;
        let expected = Expected { method: method.as_str(), nonce, key_id: &self.key_id, secret: &self.secret, now };
        let received = Received { status: answer.status.as_u16(), headers: &answer.headers, body: &answer.body };
        Ok(expected.verify(received)?)
    }
}

/// Values of the header `relaytrace-nonce`: each its own.
#[derive(Debug)]
pub struct Nonces {
    prefix: String,
    used: u64,
}

impl Nonces {
    /// Of one connection.
    pub fn new(connection: usize) -> Self {
        Self { prefix: format!("bench-{:08x}-{connection:04x}", std::process::id()), used: 0 }
    }

    /// The next nonce.
    pub fn next(&mut self) -> HeaderValue {
        self.used += 1;
        let text = format!("{}-{:012x}", self.prefix, self.used);
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("bench-no-nonce-at-all"))
    }
}
