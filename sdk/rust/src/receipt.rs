//! Receipts: signed statements of decisions, verified with the deployment's public keys (contract, "Receipts").

use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::{Actor, Decision, Outcome};

/// The public keys of a deployment, older ones included.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct ReceiptKeys(JwkSet);

/// The claims of a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    /// The deployment.
    pub iss: String,
    /// The request.
    pub sub: Uuid,
    /// The agent that asked.
    pub agent_id: String,
    /// The agent's own key.
    pub client_request_key: String,
    /// Type of the action.
    pub action_type: String,
    /// Of the action.
    pub action_digest: String,
    /// The outcome.
    pub outcome: Outcome,
    /// `operator`, `timeout`, `admin` or `agent`.
    pub cause: String,
    /// The actor of the decision.
    pub decided_by: Actor,
    /// The operators' approvals where one was not enough, the deciding one last; else none.
    #[serde(default)]
    pub votes: Vec<Vote>,
    /// Hash of the `decided` entry.
    pub chain_head: String,
    /// Entries up to it.
    pub chain_length: u32,
}

/// One of several approvals.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Vote {
    /// The operator.
    pub voted_by: Actor,
    /// When, by the database's clock.
    pub voted_at: DateTime<Utc>,
}

impl Receipt {
    /// Whether its votes can be those of its decision: nobody's twice, and of an approval the last is the decision.
    fn has_possible_votes(&self) -> bool {
        let mut voters: Vec<_> = self.votes.iter().map(|vote| &vote.voted_by.id).collect();
        voters.sort_unstable();
        voters.dedup();
        let is_decision = |last: &Vote| self.outcome != Outcome::Approved || last.voted_by == self.decided_by;
        voters.len() == self.votes.len() && self.votes.last().is_none_or(is_decision)
    }
}

impl ReceiptKeys {
    /// The receipt of a decision: signed by one of these keys, and about this very decision.
    ///
    /// # Errors
    /// [`Error::WrongReceipt`] with the fault.
    pub fn verify(&self, decision: &Decision) -> Result<Receipt> {
        let wrong = |what: &str| Error::WrongReceipt(what.to_owned());
        let header = jsonwebtoken::decode_header(&decision.receipt).map_err(|_| wrong("it is no compact JWS"))?;
        if header.typ.as_deref() != Some("relaytrace-receipt+jwt") {
            return Err(wrong("it is of another type"));
        }
        // Keys of another use, such as attestations, say nothing by a receipt.
        let signs_receipts = |use_: &Option<PublicKeyUse>| matches!(use_, None | Some(PublicKeyUse::Signature));
        let key = header.kid.and_then(|kid| self.0.find(&kid)).filter(|key| signs_receipts(&key.common.public_key_use));
        let key = key.ok_or_else(|| wrong("its key is not known"))?;
        let key = DecodingKey::from_jwk(key).map_err(|_| wrong("its key cannot be used"))?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        // A receipt never expires, and anyone may read it.
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        rules.validate_aud = false;
        let receipt: Receipt = jsonwebtoken::decode(&decision.receipt, &key, &rules)
            .map_err(|_| wrong("its signature is wrong or a claim is missing"))?
            .claims;
        let is_about_it = receipt.sub == decision.request_id
            && receipt.client_request_key == decision.client_request_key
            && receipt.outcome == decision.outcome
            && receipt.cause == decision.cause
            && receipt.decided_by == decision.decided_by
            && receipt.action_digest == decision.action_digest
            && receipt.chain_head == decision.chain.head
            && receipt.chain_length == decision.chain.length;
        if !receipt.has_possible_votes() {
            return Err(wrong("its votes are not those of its decision"));
        }
        if is_about_it { Ok(receipt) } else { Err(wrong("it states another decision")) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn votes_are_of_different_operators_and_end_with_the_decision() {
        let by = |id: &str| json!({"kind": "operator", "id": id, "name": null});
        let has_possible = |voters: &[&str], outcome: &str| {
            let at = "2026-11-27T10:00:00Z";
            let votes: Vec<_> = voters.iter().map(|id| json!({"voted_by": by(id), "voted_at": at})).collect();
            let receipt = json!({
                "iss": "relay", "sub": "01990c3e-8f00-7000-8000-000000000001", "agent_id": "a", "action_type": "t",
                "client_request_key": "k", "action_digest": "sha256:", "outcome": outcome, "cause": "operator",
                "decided_by": by("cem"), "votes": votes, "chain_head": "sha256:", "chain_length": 4,
            });
            serde_json::from_value::<Receipt>(receipt).unwrap().has_possible_votes()
        };
        assert!(has_possible(&["ana", "ben", "cem"], "approved"));
        assert!(has_possible(&[], "approved") && has_possible(&["ana"], "rejected"));
        assert!(!has_possible(&["ana", "ana", "cem"], "approved"));
        assert!(!has_possible(&["ana", "ben"], "approved"));
    }
}
