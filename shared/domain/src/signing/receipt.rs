//! Receipts: one decision as a compact JWS that anyone can verify offline (contract, "Receipts").

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;

use super::attestation::{Attestation, AttestationKeys};
use super::made::{self, Made, Signature};
use crate::{
    Actor, AgentId, Cause, ClientRequestKey, DecidedEntry, Digest, Outcome, Permit, RequestId, SubmittedEntry,
    Timestamp, VoteEntry, Written,
};
use crate::{Error, Result, chain_genesis, chain_hash};

/// Longest time that an approval may be used.
const LONGEST_PERMIT: TimeDelta = TimeDelta::days(1);

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
    /// A sentence for the person who configures it.
    pub fn from_pem(text: &SecretString) -> Result<Self, &'static str> {
        let pem = pem::parse(text.expose_secret()).map_err(|_| "is not PEM")?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pem.contents())
            .map_err(|_| "is not an Ed25519 private key in PKCS#8")?;
        let key_id = thumbprint(pair.public_key().as_ref());
        Ok(Self { pair, key_id })
    }

    fn jwk(&self) -> serde_json::Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": public(&self.pair), "kid": self.key_id, "alg": "EdDSA", "use": "sig"})
    }
}

pub(super) fn public(pair: &Ed25519KeyPair) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(pair.public_key())
}

/// The thumbprint of an Ed25519 public key (RFC 7638).
pub(super) fn thumbprint(public: &[u8]) -> String {
    let x = BASE64_URL_SAFE_NO_PAD.encode(public);
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    BASE64_URL_SAFE_NO_PAD.encode(Digest::of(canonical.as_bytes()).0)
}

/// What signs receipts: the current key, its header, and whose it is.
#[derive(Debug)]
struct Signer {
    key: ReceiptKey,
    /// Base64url of the JWS header: the same for every receipt of this key.
    header: String,
}

impl Signer {
    fn sign(&self, message: &[u8]) -> Signature {
        let signature = self.key.pair.sign(message);
        signature.as_ref().try_into().expect("Ed25519 signatures have one length")
    }
}

/// The key that receipts are signed with, the public halves of older ones, and the keys that attest decisions: no receipt
/// is signed of a decision that nobody attests.
#[derive(Debug)]
pub struct ReceiptKeys {
    /// `None`: this process signs no receipts.
    signer: Option<Signer>,
    /// The deployment's name.
    issuer: String,
    attestations: AttestationKeys,
    jwks: serde_json::Value,
    made: Made,
}

/// A request's `decided` entry as it is stored, and the other members of its receipt.
#[derive(Clone, Copy, Debug)]
pub struct StoredDecision<'a> {
    /// The request.
    pub request_id: RequestId,
    /// The exact bytes of the chain's first entry.
    pub submitted: &'a [u8],
    /// Hash of the chain's first entry.
    pub submitted_hash: Digest,
    /// The agent's own key as the request's row has it: for entries from before they named it.
    pub client_request_key: &'a ClientRequestKey,
    /// Type of the action as the request's row has it: for entries from before they named it.
    pub action_type: &'a str,
    /// The exact bytes of the entry.
    pub entry: &'a [u8],
    /// Hash of the entry before.
    pub prev_hash: Digest,
    /// Hash of this one.
    pub hash: Digest,
    /// Until when the approval may be used.
    pub permit: Option<Permit>,
    /// Whether it was stored before decisions were attested, as the database proves it.
    pub is_from_before: bool,
    /// What the operator wrote, as it is stored.
    pub written: Option<&'a Written>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: RequestId,
    agent_id: &'a str,
    client_request_key: &'a ClientRequestKey,
    action_type: &'a str,
    action_digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_action_digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_digest: Option<Digest>,
    outcome: Outcome,
    cause: Cause,
    decided_by: &'a Actor,
    decided_at: Timestamp,
    /// The approvals, the deciding one last; only where one was not enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    votes: Option<Vec<VoteClaim<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permit: Option<Permit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<i32>,
    chain_head: Digest,
    chain_length: i32,
    iat: i64,
}

#[derive(Serialize)]
struct VoteClaim<'a> {
    voted_by: &'a Actor,
    voted_at: Timestamp,
}

impl<'a> From<&'a VoteEntry> for VoteClaim<'a> {
    fn from(vote: &'a VoteEntry) -> Self {
        Self { voted_by: &vote.actor, voted_at: vote.at }
    }
}

impl ReceiptKeys {
    /// Keys of the deployment named `issuer`; receipts of older keys stay verifiable by `older`. Without `current`
    /// nothing can be signed.
    #[must_use]
    pub fn new(
        issuer: String,
        current: Option<ReceiptKey>,
        older: impl IntoIterator<Item = serde_json::Value>,
        attestations: AttestationKeys,
    ) -> Self {
        let keys: Vec<_> = current.iter().map(ReceiptKey::jwk).chain(older).chain(attestations.jwks()).collect();
        let signer = current.map(|key| {
            let header = json!({"alg": "EdDSA", "typ": "relaytrace-receipt+jwt", "kid": key.key_id});
            Signer { header: BASE64_URL_SAFE_NO_PAD.encode(header.to_string()), key }
        });
        Self { signer, issuer, attestations, jwks: json!({"keys": keys}), made: Made::default() }
    }

    /// Whether this process has a key to sign with.
    #[must_use]
    pub fn can_sign(&self) -> bool {
        self.signer.is_some()
    }

    /// The public keys as a JWK set (RFC 7517): of receipts (`use` `sig`) and of attestations (`use` `attestation`).
    #[must_use]
    pub fn jwks(&self) -> &serde_json::Value {
        &self.jwks
    }

    /// The receipt of a delivered decision, and the entry that it states.
    ///
    /// Its claims come from the stored bytes of the `submitted` and `decided` entries, re-hashed first, and whoever
    /// decided has attested them: what was changed in the database, or decided there, is not signed. The same decision
    /// and key give the same bytes.
    ///
    /// # Errors
    /// [`Error::Internal`] where an entry does not have its hash, is not what it should be, is of another agent, or is
    /// not attested.
    pub fn receipt(&self, stored: &StoredDecision<'_>, agent_id: &AgentId) -> Result<(DecidedEntry, String)> {
        let signer = self.signer.as_ref();
        let signer = signer.ok_or_else(|| wrong(stored.request_id, "is asked for where no receipt key is"))?;
        let name = made::name(stored, agent_id);
        let known = self.made.signature(&name);
        // What it was made of was checked then, and is the same.
        let (submitted, decided) = if known.is_some() { read(stored)? } else { self.check(stored, agent_id)? };
        let mut receipt = self.unsigned(signer, stored, &submitted, &decided)?;
        let signature = known.unwrap_or_else(|| {
            let signature = signer.sign(receipt.as_bytes());
            self.made.add(name, signature);
            signature
        });
        receipt.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut receipt);
        Ok((decided, receipt))
    }

    /// Header and claims: what is signed.
    fn unsigned(
        &self,
        signer: &Signer,
        stored: &StoredDecision<'_>,
        submitted: &SubmittedEntry,
        decided: &DecidedEntry,
    ) -> Result<String> {
        let claims = Claims {
            iss: &self.issuer,
            sub: decided.request_id,
            agent_id: &submitted.actor.id,
            client_request_key: submitted.client_request_key.as_ref().unwrap_or(stored.client_request_key),
            action_type: submitted.action_type.as_deref().unwrap_or(stored.action_type),
            action_digest: decided.action_digest,
            requested_action_digest: decided.requested_action_digest,
            edited: decided.requested_action_digest.map(|_| decided.edited),
            response_digest: decided.response_digest,
            outcome: decided.outcome,
            cause: decided.cause,
            decided_by: &decided.actor,
            decided_at: decided.at,
            votes: decided.votes.as_ref().map(|votes| votes.iter().map(VoteClaim::from).collect()),
            permit: stored.permit,
            epoch: decided.epoch,
            chain_head: stored.hash,
            chain_length: decided.seq,
            // Rounded down: verifiers refuse a receipt from the future.
            iat: decided.at.0.timestamp(),
        };
        let claims = serde_json::to_vec(&claims).map_err(Error::internal)?;
        // Room for the signature, too.
        let mut unsigned = String::with_capacity(signer.header.len() + claims.len() * 4 / 3 + 96);
        unsigned.push_str(&signer.header);
        unsigned.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut unsigned);
        Ok(unsigned)
    }

    /// The entry of a decision that a receipt could be signed of: for functions that tell decisions and sign no receipts.
    ///
    /// # Errors
    /// As of [`ReceiptKeys::receipt`].
    pub fn checked(&self, stored: &StoredDecision<'_>, agent_id: &AgentId) -> Result<DecidedEntry> {
        self.check(stored, agent_id).map(|(_, decided)| decided)
    }

    fn check(&self, stored: &StoredDecision<'_>, agent_id: &AgentId) -> Result<(SubmittedEntry, DecidedEntry)> {
        let wrong = |what: &str| wrong(stored.request_id, what);
        if chain_hash(stored.prev_hash, stored.entry) != stored.hash
            || chain_hash(chain_genesis(stored.request_id), stored.submitted) != stored.submitted_hash
        {
            return Err(wrong("has an entry that does not have its hash"));
        }
        match self.attestations.check(stored.entry) {
            Attestation::Valid => {}
            Attestation::Absent if stored.is_from_before => {}
            Attestation::Absent => return Err(wrong("has no attestation")),
            Attestation::Invalid(why) => return Err(wrong(&format!("has an attestation that {why}"))),
        }
        let (submitted, decided) = read(stored)?;
        if submitted.request_id != stored.request_id || decided.request_id != stored.request_id {
            return Err(wrong("has an entry of another request"));
        }
        if submitted.actor.id != agent_id.as_str()
            || submitted.action_digest != decided.requested_action_digest.unwrap_or(decided.action_digest)
        {
            return Err(wrong("is not on what this agent submitted"));
        }
        let edited = decided.requested_action_digest.map(|_| decided.action_digest);
        if stored.written.and_then(Written::action).map(|(_, digest)| digest) != edited
            || stored.written.and_then(Written::response).map(|(_, digest)| digest) != decided.response_digest
        {
            return Err(wrong("is not on what its operator wrote"));
        }
        let votes = decided.votes.as_ref().map_or(1, Vec::len);
        if decided.outcome == Outcome::Approved && votes < usize::from(submitted.approvals.unwrap_or(1)) {
            return Err(wrong("has fewer approvals than it needs"));
        }
        if decided.seq == 2 && stored.prev_hash != stored.submitted_hash {
            return Err(wrong("does not follow its submission"));
        }
        // It is in the row and in no entry: no more than what a decision can give.
        let is_possible = |permit: Permit| {
            let lasts = permit.expires_at.0 - decided.at.0;
            decided.outcome == Outcome::Approved && lasts >= TimeDelta::zero() && lasts <= LONGEST_PERMIT
        };
        if !stored.permit.is_none_or(is_possible) {
            return Err(wrong("has a permit that it cannot give"));
        }
        Ok((submitted, decided))
    }
}

/// The entries that its receipt is made of.
fn read(stored: &StoredDecision<'_>) -> Result<(SubmittedEntry, DecidedEntry)> {
    let submitted = serde_json::from_slice(stored.submitted).map_err(Error::internal)?;
    let decided = serde_json::from_slice(stored.entry).map_err(Error::internal)?;
    Ok((submitted, decided))
}

fn wrong(request_id: RequestId, what: &str) -> Error {
    Error::internal(anyhow::anyhow!("the decision of {request_id} {what}"))
}
