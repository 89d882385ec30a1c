//! The approval chain (contract, "Chain").
//!
//! The bytes are made inside the database's statements (`migrations/`), where the time and the previous hash are
//! known; this module reads and recomputes them.

use serde::{Deserialize, Serialize};

use super::decision::{Actor, Cause, Outcome};
use super::ids::{ClientRequestKey, Digest, RequestId};
use super::time::Timestamp;
use super::vote::VoteEntry;

/// What an entry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChainKind {
    /// Accepted from the agent.
    Submitted,
    /// Half of its time passed.
    Escalated,
    /// An administrator gave it more time.
    Extended,
    /// An administrator or a policy changed its priority.
    Reprioritised,
    /// Its one decision.
    Decided,
    /// The agent accepted the decision.
    Acknowledged,
    /// The decision could not be delivered.
    DeadLettered,
    /// An administrator sent it out again.
    Replayed,
    /// One of several approvals.
    Voted,
    /// Others are to decide it.
    Rerouted,
    /// The approval was used.
    Consumed,
    /// What became of its use.
    Outcome,
}

/// One entry as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEntry {
    /// Position, from 1.
    pub seq: i32,
    /// The exact bytes.
    pub entry: Vec<u8>,
    /// Hash of the entry before.
    pub prev_hash: Digest,
    /// Hash of this one.
    pub hash: Digest,
}

impl ChainHeader {
    /// What the entry's bytes say.
    ///
    /// # Errors
    /// They are not an entry's.
    pub fn of(entry: &ChainEntry) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(&entry.entry)
    }
}

/// The members that every entry has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChainHeader {
    /// Position, from 1.
    pub seq: i32,
    /// Its kind.
    pub kind: ChainKind,
    /// When.
    pub at: Timestamp,
    /// Who, as the entry writes it.
    #[cfg_attr(feature = "openapi", schema(value_type = Actor))]
    pub actor: serde_json::Value,
}

/// Bytes, written as standard base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&base64::display::Base64Display::new(&self.0, &base64::prelude::BASE64_STANDARD))
    }
}

/// The members of a `decided` entry's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DecidedEntry {
    /// The decided request.
    pub request_id: RequestId,
    /// Its position; the chain's length at the decision.
    pub seq: i32,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub outcome: Outcome,
    /// Why.
    pub cause: Cause,
    /// Of which action: the edited one where it was edited.
    pub action_digest: Digest,
    /// The action that was asked for; only where an operator wrote another.
    #[serde(default)]
    pub requested_action_digest: Option<Digest>,
    /// Whether the operator changed the action.
    #[serde(default)]
    pub edited: bool,
    /// Of the response.
    #[serde(default)]
    pub response_digest: Option<Digest>,
    /// The reason given.
    pub reason: Option<String>,
    /// The approvals, in their order; only where one was not enough. Of an approval the last is this decision itself.
    #[serde(default)]
    pub votes: Option<Vec<VoteEntry>>,
    /// The deployment's epoch; `None` in the first.
    #[serde(default)]
    pub epoch: Option<i32>,
}

/// The members of a `submitted` entry's bytes that receipts name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SubmittedEntry {
    /// The request.
    pub request_id: RequestId,
    /// The agent that asked.
    pub actor: Actor,
    /// Of its action.
    pub action_digest: Digest,
    /// The agent's own key; `None` in entries from before they named it.
    #[serde(default)]
    pub client_request_key: Option<ClientRequestKey>,
    /// Type of its action; `None` in entries from before they named it.
    #[serde(default)]
    pub action_type: Option<String>,
    /// Approvals that decide it; `None`: one.
    #[serde(default)]
    pub approvals: Option<u8>,
}

/// The `prev_hash` of a chain's first entry: SHA-256 of `relaytrace-chain-v1:<request_id>`.
#[must_use]
pub fn chain_genesis(request_id: RequestId) -> Digest {
    Digest::of(format!("relaytrace-chain-v1:{request_id}").as_bytes())
}

/// SHA-256 of the previous hash's bytes followed by the entry's bytes.
#[must_use]
pub fn chain_hash(prev_hash: Digest, entry: &[u8]) -> Digest {
    Digest::of(&[prev_hash.0.as_slice(), entry].concat())
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};

    use super::*;

    #[test]
    fn the_fixed_vector_recomputes() {
        let chain: serde_json::Value =
            serde_json::from_str(include_str!("../../../contract/vectors/chain.json")).unwrap();
        let request_id: RequestId = chain["request_id"].as_str().unwrap().parse().unwrap();
        let mut head = chain_genesis(request_id);
        for entry in chain["entries"].as_array().unwrap() {
            assert_eq!(entry["prev_hash"], head.to_string());
            let bytes = BASE64_STANDARD.decode(entry["entry"].as_str().unwrap()).unwrap();
            head = chain_hash(head, &bytes);
            assert_eq!(entry["hash"], head.to_string());
            if entry["kind"] == "decided" {
                let decided: DecidedEntry = serde_json::from_slice(&bytes).unwrap();
                assert_eq!((decided.seq, decided.outcome, decided.actor.name), (2, Outcome::Approved, None));
            }
        }
        assert_eq!(chain["head"], head.to_string());
    }
}
