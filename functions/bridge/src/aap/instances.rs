//! Instances: an agent makes keys for itself, and receivers that wake them (contract, "Instances").

use axum::Json;
use axum::extract::State;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use http::{HeaderMap, StatusCode};
use relaytrace_domain::{
    ClientRequestKey, Digest, Error, Faults, Json as Parsed, KeyId, Result, Timestamp, from_object, mint_uuid,
};
use relaytrace_reach::{Message, UNCALLABLE, WebhookSecret, instance_place};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Agent, Provision, token_digest};
use relaytrace_service::http::JsonBytes;
use relaytrace_store::{Caller, InstanceRecord, NewInstance, Provisioned};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

use super::failures::{AapError, RECEIVER};
use super::key_if_any;

/// Longest name of an instance, and longest id of a registration, in characters.
const LONGEST_NAME: usize = 200;

/// What an instance is to be.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct AapInstance {
    /// For people; otherwise its id.
    #[deserr(default, from(String) = Some)]
    #[schema(nullable = false)]
    instance_name: Option<String>,
    /// Where it is woken; otherwise it looks.
    #[deserr(default, from(AapDelivery) = Some)]
    #[schema(nullable = false)]
    delivery: Option<AapDelivery>,
}

/// A receiver.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct AapDelivery {
    /// `webhook`.
    #[deserr(rename = "type")]
    #[schema(rename = "type")]
    kind: String,
    /// https, or what the deployment names.
    url: String,
    /// The receiver's own id of this registration.
    registration_id: String,
    /// `whsec_` and base64 of 24 to 64 bytes.
    signing_secret: String,
}

/// A receiver that is sound as far as its words say.
struct Receiver {
    url: String,
    registration_id: String,
    secret: WebhookSecret,
}

impl AapInstance {
    /// Its name, and its receiver.
    fn checked(self) -> Result<(Option<String>, Option<Receiver>)> {
        let mut faults = Faults::default();
        let is_good =
            |text: &str| (1..=LONGEST_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let rule = || format!("must be 1 to {LONGEST_NAME} characters without control characters");
        if self.instance_name.as_deref().is_some_and(|name| !is_good(name)) {
            faults.add("/instance_name", rule());
        }
        let Some(AapDelivery { kind, url, registration_id, signing_secret }) = self.delivery else {
            return if faults.is_empty() { Ok((self.instance_name, None)) } else { Err(faults.into()) };
        };
        if kind != "webhook" {
            faults.add("/delivery/type", "must be webhook");
        }
        if !is_good(&registration_id) {
            faults.add("/delivery/registration_id", rule());
        }
        match signing_secret.parse() {
            Ok(secret) if faults.is_empty() => {
                Ok((self.instance_name, Some(Receiver { url, registration_id, secret })))
            }
            Ok(_) => Err(faults.into()),
            Err(wrong) => {
                faults.add("/delivery/signing_secret", wrong);
                Err(faults.into())
            }
        }
    }
}

/// An instance and the token that it is to send.
#[derive(Debug, Serialize, ToSchema)]
pub struct AapProvisioned {
    instance: InstanceTold,
    credential: Credential,
}

/// An instance.
#[derive(Debug, Serialize, ToSchema)]
struct InstanceTold {
    /// The id of its key.
    id: KeyId,
    name: String,
}

/// What an instance sends.
#[derive(Debug, ToSchema)]
struct Credential {
    /// Told again until its first use.
    #[schema(value_type = String)]
    token: SecretString,
    /// When it ends, which is when the key that asked for it does; absent: never.
    #[schema(value_type = Option<Timestamp>, nullable = false)]
    expires_at: Option<Timestamp>,
}

impl Serialize for Credential {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut told = serializer.serialize_struct("Credential", 1 + usize::from(self.expires_at.is_some()))?;
        told.serialize_field("token", self.token.expose_secret())?;
        match &self.expires_at {
            Some(at) => told.serialize_field("expires_at", at)?,
            None => told.skip_field("expires_at")?,
        }
        told.end()
    }
}

/// Make an instance, by the Agent Approval Protocol
///
/// A key of the same agent that asks and uses, until the key that asks for it ends. Where it has a receiver, that answers a signed challenge first, and is then told
/// when what was asked with the key is resolved. The same `Idempotency-Key` and body again is the same instance.
#[utoipa::path(
    post, path = "/aap/v1/instances", tag = "bridge", security(("agent" = [])), request_body = AapInstance,
    params(("Idempotency-Key" = Option<String>, Header, description = "The agent's own key of the instance")),
    responses(
        (status = 201, description = "Made", body = AapProvisioned),
        (status = 200, description = "The same key and body as before, and the token was not used yet", body = AapProvisioned),
        (status = "default", description = "An error", body = AapError),
    )
)]
pub async fn provision(
    Agent(caller, _): Agent<Provision>,
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonBytes(bytes): JsonBytes,
) -> Result<(StatusCode, Json<AapProvisioned>)> {
    let json = Parsed::parse(&bytes)?;
    let mut comparable = Vec::with_capacity(bytes.len());
    json.write_comparable(&mut comparable);
    let fingerprint = Digest::of(&comparable);
    let (name, receiver) = from_object::<AapInstance>(json)?.checked()?;
    let id = instance_id(&caller, key_if_any(&headers)?.as_ref())?;
    // Who may not make bearer keys here has no such route.
    let token = state.bearer_master.as_ref().ok_or(Error::NotFound)?.token(&caller.agent_id, &id)?;
    if let Some(made) = state.store.instance(&caller, &id).await? {
        return told_again(made, fingerprint, id, token);
    }
    // A challenge is a call to another machine: no more of them than submissions.
    state.authenticator.count_submission(&caller)?;
    let sealed = match &receiver {
        Some(receiver) => Some(verified(&state, &id, receiver).await?),
        None => None,
    };
    let name = name.unwrap_or_else(|| id.to_string());
    let new = NewInstance {
        key_id: &id,
        token_digest: &token_digest(&token),
        master_id: state.master_secrets.current(),
        name: &name,
        fingerprint,
        receiver: sealed.as_ref().map(|(config, sealed)| (config.as_str(), sealed.as_slice())),
    };
    match state.store.provision(&caller, &new).await? {
        Provisioned::Now { expires_at } => {
            Ok((StatusCode::CREATED, provisioned(id, name, token, expires_at.map(Timestamp))))
        }
        Provisioned::Before(made) => told_again(made, fingerprint, id, token),
    }
}

/// The id is the key's, so that the token can be derived again; another agent's is another one.
fn instance_id(caller: &Caller, key: Option<&ClientRequestKey>) -> Result<KeyId> {
    let named = match key {
        Some(key) => Digest::of(format!("{}\n{key}", caller.agent_id).as_bytes()),
        None => Digest(rand::random()),
    };
    let hex = named.to_string();
    format!("aap-{}", &hex["sha256:".len()..][..32]).parse().map_err(Error::internal)
}

fn provisioned(id: KeyId, name: String, token: SecretString, expires_at: Option<Timestamp>) -> Json<AapProvisioned> {
    let credential = Credential { token, expires_at };
    Json(AapProvisioned { instance: InstanceTold { id, name }, credential })
}

fn told_again(
    made: InstanceRecord,
    fingerprint: Digest,
    id: KeyId,
    token: SecretString,
) -> Result<(StatusCode, Json<AapProvisioned>)> {
    if made.fingerprint != fingerprint.0 {
        return Err(Error::IdempotencyKeyReused);
    }
    match (made.is_used, made.is_active) {
        (_, false) => Err(Error::Conflict("the instance was revoked, or has ended")),
        (true, true) => Err(Error::Conflict("the instance's token has been used: it is not told again")),
        (false, true) => Ok((StatusCode::OK, provisioned(id, made.name, token, made.expires_at.map(Timestamp)))),
    }
}

/// The receiver answers with exactly the challenge, within 10 s: how it is stored, and its sealed secret.
async fn verified(state: &AppState, id: &KeyId, receiver: &Receiver) -> Result<(String, Vec<u8>)> {
    let keys = state.reach.config.keys.as_ref();
    let keys = keys.ok_or_else(|| Error::invalid("/delivery", "this deployment keeps no secrets of receivers"))?;
    let now = state.clock.now();
    let Receiver { url, registration_id, secret } = receiver;
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let message_id = format!("msg_{}", mint_uuid(now).simple());
    let message = Message::challenge_of_instance(message_id, now, registration_id, id, &challenge);
    let secrets = [secret.clone()];
    let answered = state.reach.sender().verify(url, &secrets, &message, &challenge, now).await;
    answered.map_err(|_| Error::invalid(RECEIVER, UNCALLABLE))?;
    let sealed = keys.seal(&instance_place(id), secret.text().expose_secret())?;
    Ok((serde_json::json!({"url": url}).to_string(), sealed))
}
