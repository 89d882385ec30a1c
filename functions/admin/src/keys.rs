//! Agents' keys (contract, "Keys").

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use relaytrace_domain::{ActionType, AgentId, Faults, KeyId, KeyRights, KeyScope, Timestamp};
use relaytrace_domain::{Error, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Admin, KeyAlg, PublicKey, token_digest};
use relaytrace_service::http::{JsonBody, Path, Problem};
use relaytrace_store::{NewKey as Stored, Registered};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

/// Agents, and action types, that a key names at the most.
const MOST_NAMES: usize = 100;

/// A new key of an agent.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewKey {
    key_id: KeyId,
    alg: KeyAlg,
    /// SPKI PEM; not with `bearer`.
    #[deserr(default, from(String) = Some)]
    #[schema(value_type = String, required = false)]
    public_key: Option<String>,
    /// What the key may do, for ever; by default `ask` and `execute`.
    #[deserr(default, from(Vec<KeyScope>) = Some)]
    #[schema(value_type = Vec<KeyScope>, required = false, min_items = 1)]
    scopes: Option<Vec<KeyScope>>,
    /// With `execute-any`: only permits of these agents. It names agents, action types or both.
    #[deserr(default, from(Vec<AgentId>) = Some)]
    #[schema(value_type = Vec<AgentId>, required = false, min_items = 1, max_items = 100)]
    agents: Option<Vec<AgentId>>,
    /// With `execute-any`: only permits of these action types.
    #[deserr(default, from(Vec<ActionType>) = Some)]
    #[schema(value_type = Vec<ActionType>, required = false, min_items = 1, max_items = 100)]
    action_types: Option<Vec<ActionType>>,
    /// From then on the key is not accepted.
    #[deserr(default, from(Timestamp) = Some)]
    #[schema(value_type = Timestamp, required = false)]
    expires_at: Option<Timestamp>,
}

/// A registered key with its secrets, which are shown until the key is first used.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegisteredKey {
    agent_id: AgentId,
    key_id: KeyId,
    alg: KeyAlg,
    scopes: Vec<KeyScope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<Vec<AgentId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_types: Option<Vec<ActionType>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// Of a bearer key: what the agent sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    /// Standard base64: verifies the responses to this key (HMAC-SHA256).
    response_secret: String,
}

/// A bearer token: nothing prints it but the answer that tells it.
#[derive(Debug, ToSchema)]
#[schema(value_type = String)]
struct Token(SecretString);

impl Serialize for Token {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl NewKey {
    fn rights(&self, faults: &mut Faults) -> KeyRights {
        let rights = KeyRights {
            scopes: self.scopes.as_ref().map_or(KeyRights::default().scopes, |named| named.iter().copied().collect()),
            agents: names(faults, "agents", self.agents.as_deref()),
            action_types: names(faults, "action_types", self.action_types.as_deref()),
        };
        if rights.scopes.is_empty() {
            faults.add_at("scopes", "must name at least one scope");
        }
        match (rights.scopes.contains(&KeyScope::ExecuteAny), &rights.agents, &rights.action_types) {
            (true, None, None) => faults.add_at("scopes", "execute-any names agents, action_types or both"),
            (false, Some(_), _) => faults.add_at("agents", "is for the scope execute-any"),
            (false, None, Some(_)) => faults.add_at("action_types", "is for the scope execute-any"),
            _ => {}
        }
        rights
    }

    /// What is stored of the key, and the token of a bearer key.
    fn verifier(&self, state: &AppState, agent_id: &AgentId, faults: &mut Faults) -> Result<(Vec<u8>, Option<Token>)> {
        match (self.alg, &self.public_key, &state.bearer_master) {
            (KeyAlg::Bearer, None, Some(master)) => {
                let token = master.token(agent_id, &self.key_id)?;
                return Ok((token_digest(&token).to_vec(), Some(Token(token))));
            }
            (KeyAlg::Bearer, Some(_), _) => faults.add_at("public_key", "does not go with the alg bearer"),
            (KeyAlg::Bearer, None, None) => faults.add_at("alg", "this deployment makes no bearer keys"),
            (_, None, _) => faults.add_at("public_key", "is required"),
            (alg, Some(text), _) => match PublicKey::from_pem(alg, text) {
                Ok(key) => return Ok((key.spki, None)),
                Err(rule) => faults.add_at("public_key", rule),
            },
        }
        Ok((Vec::new(), None))
    }

    fn expiry(&self, now: DateTime<Utc>, faults: &mut Faults) -> Option<DateTime<Utc>> {
        let expires_at = self.expires_at.map(|Timestamp(at)| at);
        if expires_at.is_some_and(|at| at <= now) {
            faults.add_at("expires_at", "must lie in the future");
        }
        expires_at
    }
}

/// Names in order, each once.
fn names<T: Ord + Clone>(faults: &mut Faults, member: &str, given: Option<&[T]>) -> Option<Vec<T>> {
    let mut named = given?.to_vec();
    if named.is_empty() || named.len() > MOST_NAMES {
        faults.add_at(member, format!("must name 1 to {MOST_NAMES}"));
    }
    named.sort();
    named.dedup();
    Some(named)
}

/// Register a key
#[utoipa::path(
    post, path = "/v1/admin/agents/{agent_id}/keys", tag = "admin", security(("admin" = [])),
    params(("agent_id" = String, Path)), request_body = NewKey,
    responses(
        (status = 201, description = "Registered", body = RegisteredKey),
        (status = 200, description = "Registered before, unchanged and not used yet", body = RegisteredKey),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn register_key(
    Admin(scope): Admin,
    Path(agent_id): Path<AgentId>,
    State(state): State<AppState>,
    JsonBody(new): JsonBody<NewKey>,
) -> Result<(StatusCode, Json<RegisteredKey>)> {
    let mut faults = Faults::default();
    let rights = new.rights(&mut faults);
    let (public_key, token) = new.verifier(&state, &agent_id, &mut faults)?;
    let expires_at = new.expiry(state.clock.now(), &mut faults);
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let NewKey { key_id, alg, .. } = new;
    let masters = &state.master_secrets;
    let (alg_name, master_id) = (alg.as_str(), masters.current());
    let stored = Stored {
        key_id: &key_id,
        agent_id: &agent_id,
        alg: alg_name,
        public_key: &public_key,
        master_id,
        rights: &rights,
        expires_at,
    };
    let registered = state.store.register_key(&scope, &stored).await?;
    let (status, master_id) = match &registered {
        Registered::Created => (StatusCode::CREATED, master_id),
        Registered::Unchanged { master_id } => (StatusCode::OK, master_id.as_str()),
    };
    let response_secret = masters.response_secret_text(master_id, &agent_id, &key_id)?;
    let KeyRights { scopes, agents, action_types } = rights;
    let (scopes, expires_at) = (scopes.into_iter().collect(), expires_at.map(Timestamp));
    let key = RegisteredKey { agent_id, key_id, alg, scopes, agents, action_types, expires_at, token, response_secret };
    Ok((status, Json(key)))
}

/// Revoke a key
#[utoipa::path(
    delete, path = "/v1/admin/agents/{agent_id}/keys/{key_id}", tag = "admin", security(("admin" = [])),
    params(("agent_id" = String, Path), ("key_id" = String, Path)),
    responses(
        (status = 204, description = "Revoked, now or before"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn revoke_key(
    Admin(scope): Admin,
    Path((agent_id, key_id)): Path<(AgentId, KeyId)>,
    State(state): State<AppState>,
) -> Result<StatusCode> {
    if state.store.revoke_key(&scope, &agent_id, &key_id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Error::NotFound)
    }
}
