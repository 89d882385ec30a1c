//! The agents of a run: registered for it, with keys of their own.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jsonwebtoken::EncodingKey;
use relaytrace_client::{Client, Credentials, Patience};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::target::Target;
use crate::keys::NewKey;

/// How long registering may take at the longest.
const PATIENCE: Duration = Duration::from_secs(20);
/// How patient an agent's client is with its service: recovery can take its time on a busy machine.
const OF_CLIENTS: Patience = Patience {
    per_try: Duration::from_secs(5),
    in_all: Duration::from_mins(2),
    first_contact: Duration::from_mins(2),
    until_passed_over: Duration::from_secs(35),
};

/// One key of an agent, and the client that uses it.
pub struct Key {
    /// Names it in tokens.
    pub key_id: String,
    /// Signs tokens.
    pub signs: EncodingKey,
    /// Verifies responses.
    pub credentials: Credentials,
    /// Calls.
    pub client: Client,
}

/// An agent.
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Its keys.
    pub keys: Vec<Key>,
}

/// Registers so many agents, with ids that no run before had.
pub async fn register(target: &Target, prefix: &str, agents: usize, keys: usize) -> Result<Vec<Agent>> {
    let run = format!("{:08x}", rand::random::<u32>());
    let mut cohort = Vec::with_capacity(agents);
    for number in 1..=agents {
        let id = format!("{prefix}-{run}-{number}");
        post(target, "/v1/admin/agents", &json!({"agent_id": id, "name": "A synthetic agent"})).await?;
        let mut agent = Agent { id, keys: Vec::with_capacity(keys) };
        for key in 1..=keys {
            let key = new_key(target, &agent.id, format!("{}-k{key}", agent.id)).await?;
            agent.keys.push(key);
        }
        cohort.push(agent);
    }
    Ok(cohort)
}

async fn new_key(target: &Target, agent_id: &str, key_id: String) -> Result<Key> {
    let new = NewKey::generate()?;
    let body = json!({"key_id": key_id, "alg": "EdDSA", "public_key": new.public_pem});
    let registered = post(target, &format!("/v1/admin/agents/{agent_id}/keys"), &body).await?;
    let secret = registered["response_secret"].as_str().context("a registered key has no response_secret")?;
    let credentials = Credentials::new(agent_id, &key_id, &new.private_pem(), secret)?;
    let client = Client::with_patience(&target.base_url, credentials.clone(), OF_CLIENTS)?;
    Ok(Key { key_id, signs: EncodingKey::from_ed_der(&new.pkcs8), credentials, client })
}

async fn post(target: &Target, path: &str, body: &Value) -> Result<Value> {
    let reply = target.until_answered(&target.admin, Method::POST, path, Some(body), PATIENCE).await?;
    // 200: an answer before this one was lost.
    let is_done = matches!(reply.status, StatusCode::CREATED | StatusCode::OK);
    ensure!(is_done, "POST {path}: {} {}", reply.status, reply.body);
    Ok(reply.body)
}
