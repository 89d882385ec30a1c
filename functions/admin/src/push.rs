//! Agents' push (contract, "Agents' push").

use axum::Json;
use axum::extract::State;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use relaytrace_domain::{AgentId, Error, Result, mint_uuid};
use relaytrace_reach::{Message, PushSecrets, UNCALLABLE, WebhookSecret, push_place};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Path, Problem};
use relaytrace_store::{PushRecord, Scope};
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use crate::channels::keys;

/// Tries to write what others change meanwhile.
const TRIES: usize = 5;

/// Where an agent is pushed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct Push {
    /// https, or what the deployment names.
    pub url: String,
}

/// A new secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct PushSecret {
    agent_id: AgentId,
    /// `whsec_…` of Standard Webhooks. Shown once.
    secret: String,
}

/// Make or rotate the secret of an agent's push
///
/// Until 24 hours later messages are signed with the one before as well. A call whose answer was lost may be repeated: each
/// secret of the last 24 hours signs.
#[utoipa::path(
    post, path = "/v1/admin/agents/{agent_id}/push/secret", tag = "admin", security(("admin" = [])),
    params(("agent_id" = String, Path)),
    responses(
        (status = 200, description = "The secret from now on", body = PushSecret),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn make_secret(
    Admin(scope): Admin,
    Path(agent_id): Path<AgentId>,
    State(state): State<AppState>,
) -> Result<Json<PushSecret>> {
    state.store.agent(&scope, &agent_id).await?.ok_or(Error::NotFound)?;
    let made = WebhookSecret::generate()?;
    for _ in 0..TRIES {
        let read = state.store.push_of(&scope, &agent_id).await?;
        let secrets = secrets(&state, &agent_id, &read)?.with(made.clone(), state.clock.now());
        let sealed = keys(&state)?.seal(&push_place(&agent_id), secrets.stored().expose_secret())?;
        if state.store.set_push(&scope, &agent_id, &read, &sealed, None).await? {
            return Ok(Json(PushSecret { agent_id, secret: made.text().expose_secret().to_owned() }));
        }
    }
    Err(Error::Conflict("the secret is being changed by others"))
}

fn secrets(state: &AppState, agent_id: &AgentId, read: &PushRecord) -> Result<PushSecrets> {
    match &read.sealed {
        Some(sealed) => PushSecrets::read(&keys(state)?.open(&push_place(agent_id), sealed)?),
        None => Ok(PushSecrets::default()),
    }
}

/// Sets where an agent is pushed to, after the receiver has said that it is meant; `None` turns it off.
///
/// # Errors
/// [`Error::Invalid`] where there is no secret yet, or the receiver does not answer with the challenge.
pub async fn set(state: &AppState, scope: &Scope, agent_id: &AgentId, push: Option<&Push>) -> Result<()> {
    let read = state.store.push_of(scope, agent_id).await?;
    let Some(sealed) = &read.sealed else {
        return match push {
            Some(_) => Err(Error::invalid("/push", "make its secret first: POST …/push/secret")),
            None => Ok(()),
        };
    };
    let url = push.map(|push| push.url.as_str());
    if url == read.url.as_deref() {
        return Ok(());
    }
    if let Some(url) = url {
        verify(state, agent_id, &read, url).await?;
    }
    if state.store.set_push(scope, agent_id, &read, sealed, Some(url)).await? {
        return Ok(());
    }
    Err(Error::Conflict("its secret was changed meanwhile"))
}

/// The receiver answers with exactly the challenge, within 10 s.
async fn verify(state: &AppState, agent_id: &AgentId, read: &PushRecord, url: &str) -> Result<()> {
    let now = state.clock.now();
    let secrets = secrets(state, agent_id, read)?.valid(now);
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let message = Message::challenge(format!("msg_{}", mint_uuid(now).simple()), now, &challenge);
    let verified = state.reach.sender().verify(url, &secrets, &message, &challenge, now).await;
    verified.map_err(|_| Error::invalid("/push/url", UNCALLABLE))
}
