//! A synthetic agent: an Ed25519 key, a token, and the secret that responses to it are verified with.

use anyhow::{Context, Result, ensure};
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use jsonwebtoken::get_current_timestamp;
use relaytrace_client::Credentials;
use relaytrace_client::signature::Received;
use serde_json::{Value, json};

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
    credentials: Credentials,
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
        let new = NewKey::generate()?;
        let key = json!({"key_id": key_id, "alg": "EdDSA", "public_key": new.public_pem});
        let registered = connection.post(&format!("/v1/admin/agents/{id}/keys"), admin, &key).await?;
        registered.expect(StatusCode::CREATED)?;
        let registered = registered.json()?;
        let secret = registered["response_secret"].as_str().context("a registered key has no response_secret")?;
        let credentials = Credentials::new(&id, &key_id, &new.private_pem(), secret)?;
        let mut agent = Self { id, key_id, credentials, token: HeaderValue::from_static(""), token_made_at: 0 };
        agent.refresh_token()?;
        Ok(agent)
    }

    /// Makes a new token, unless the one there is good for some minutes yet.
    pub fn refresh_token(&mut self) -> Result<()> {
        let now = get_current_timestamp();
        if now < self.token_made_at + TOKEN_KEPT_FOR {
            return Ok(());
        }
        self.token = bearer(&self.credentials.sign_token(now, TOKEN_LIFETIME)?)?;
        self.token_made_at = now;
        Ok(())
    }

    /// The header `Authorization`.
    pub fn token(&self) -> &HeaderValue {
        &self.token
    }

    /// Whether the response is the service's own, and about what was asked.
    pub fn verify(&self, answer: &Answer, asked: &Asked<'_>) -> Result<()> {
        let now = i64::try_from(get_current_timestamp())?;
        let expected = self.credentials.expected(asked.method.as_str(), asked.nonce, now);
        expected.verify(Received { status: answer.status.as_u16(), headers: &answer.headers, body: &answer.body })?;
        let difference = asked.difference(self, answer.status, &answer.json().unwrap_or_default());
        ensure!(difference.is_none(), "it answers another question: {}", difference.unwrap_or_default());
        Ok(())
    }
}

/// A call that was made.
pub struct Asked<'a> {
    pub method: &'a Method,
    /// With its query.
    pub path: &'a str,
    pub body: &'a [u8],
    pub nonce: &'a str,
}

impl Asked<'_> {
    /// The first member of an answer that belongs to another question. Compared here with code of its own: relaytrace-client
    /// is judged by this.
    fn difference(&self, agent: &Agent, status: StatusCode, said: &Value) -> Option<String> {
        let path = self.path.split('?').next().unwrap_or_default();
        let differs = |member: &str, asked: &str| {
            let answered = said[member].as_str().unwrap_or_default();
            (answered != asked).then(|| format!("its {member} is {answered:?}, asked was {asked:?}"))
        };
        if !status.is_success() {
            return differs("instance", path);
        }
        let sent: Value = serde_json::from_slice(self.body).unwrap_or_default();
        let mut steps = path.split('/').skip_while(|step| !matches!(*step, "requests" | "decisions")).skip(1);
        let request_id = steps.next().filter(|step| !matches!(*step, "" | "poll"));
        differs("agent_id", &agent.id)
            .or_else(|| request_id.and_then(|id| differs("request_id", id)))
            .or_else(|| sent["client_request_key"].as_str().and_then(|key| differs("client_request_key", key)))
            .or_else(|| sent["delivery_id"].as_str().and_then(|id| differs("delivery_id", id)))
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
