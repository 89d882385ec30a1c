//! Receipts: one decision as a compact JWS that anyone can verify offline (contract, "Receipts").

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;

use crate::{Actor, AgentId, Cause, ClientRequestKey, DecidedEntry, Digest, Outcome, RequestId, Timestamp, chain_hash};
use crate::{Error, Result};

/// The private key that receipts are signed with.
pub struct ReceiptKey {
    pair: Ed25519KeyPair,
    key_id: String,
}

impl fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiptKey({})", self.key_id)
    }
}

impl ReceiptKey {
    /// An Ed25519 key as PKCS#8 PEM. Its id is the thumbprint of its public half (RFC 7638).
    ///
    /// # Errors
    /// A sentence for whoever configures it.
    pub fn from_pem(text: &SecretString) -> Result<Self, &'static str> {
        let pem = pem::parse(text.expose_secret()).map_err(|_| "is not PEM")?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pem.contents())
            .map_err(|_| "is not an Ed25519 private key in PKCS#8")?;
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, public(&pair));
        let key_id = BASE64_URL_SAFE_NO_PAD.encode(Digest::of(canonical.as_bytes()).0);
        Ok(Self { pair, key_id })
    }

    fn jwk(&self) -> serde_json::Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": public(&self.pair), "kid": self.key_id, "alg": "EdDSA", "use": "sig"})
    }
}

fn public(pair: &Ed25519KeyPair) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(pair.public_key())
}

/// The current key and the public halves of older ones.
#[derive(Debug)]
pub struct ReceiptKeys {
    current: ReceiptKey,
    /// Base64url of the JWS header: the same for every receipt of this key.
    header: String,
    /// The deployment's name.
    issuer: String,
    jwks: serde_json::Value,
}

/// A request's `decided` entry as it is stored, and what its receipt names beside it.
#[derive(Clone, Copy, Debug)]
pub struct StoredDecision<'a> {
    /// The request.
    pub request_id: RequestId,
    /// The agent's own key for it.
    pub client_request_key: &'a ClientRequestKey,
    /// Type of its action.
    pub action_type: &'a str,
    /// The exact bytes of the entry.
    pub entry: &'a [u8],
    /// Hash of the entry before.
    pub prev_hash: Digest,
    /// Hash of this one.
    pub hash: Digest,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: RequestId,
    agent_id: &'a AgentId,
    client_request_key: &'a ClientRequestKey,
    action_type: &'a str,
    action_digest: Digest,
    outcome: Outcome,
    cause: Cause,
    decided_by: &'a Actor,
    decided_at: Timestamp,
    chain_head: Digest,
    chain_length: i32,
    iat: i64,
}

impl ReceiptKeys {
    /// Keys of the deployment named `issuer`; receipts of older keys stay verifiable by `older`.
    #[must_use]
    pub fn new(issuer: String, current: ReceiptKey, older: impl IntoIterator<Item = serde_json::Value>) -> Self {
        let header = json!({"alg": "EdDSA", "typ": "relaytrace-receipt+jwt", "kid": current.key_id});
        let header = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
        let keys: Vec<_> = [current.jwk()].into_iter().chain(older).collect();
        let jwks = json!({"keys": keys});
        Self { current, header, issuer, jwks }
    }

    /// The public keys as a JWK set (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> &serde_json::Value {
        &self.jwks
    }

    /// The receipt of a delivered decision, and the entry that it states.
    ///
    /// Its claims come from the stored bytes of the `decided` entry, re-hashed first: what was changed in the
    /// database is not signed. The same decision and key give the same bytes.
    ///
    /// # Errors
    /// [`Error::Internal`] where the entry does not have its hash, or is not what it should be.
    pub fn receipt(&self, stored: &StoredDecision<'_>, agent_id: &AgentId) -> Result<(DecidedEntry, String)> {
        if chain_hash(stored.prev_hash, stored.entry) != stored.hash {
            let request_id = stored.request_id;
            return Err(Error::internal(anyhow::anyhow!("the decided entry of {request_id} does not have its hash")));
        }
        let decided: DecidedEntry = serde_json::from_slice(stored.entry).map_err(Error::internal)?;
        let claims = Claims {
            iss: &self.issuer,
            sub: decided.request_id,
            agent_id,
            client_request_key: stored.client_request_key,
            action_type: stored.action_type,
            action_digest: decided.action_digest,
            outcome: decided.outcome,
            cause: decided.cause,
            decided_by: &decided.actor,
            decided_at: decided.at,
            chain_head: stored.hash,
            chain_length: decided.seq,
            // Rounded down: verifiers refuse a receipt from the future.
            iat: decided.at.0.timestamp(),
        };
        let claims = serde_json::to_vec(&claims).map_err(Error::internal)?;
        let mut receipt = format!("{}.{}", self.header, BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature = self.current.pair.sign(receipt.as_bytes());
        receipt.push('.');
        receipt.push_str(&BASE64_URL_SAFE_NO_PAD.encode(signature));
        Ok((decided, receipt))
    }
}
