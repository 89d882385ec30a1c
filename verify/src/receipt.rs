//! Receipts: compact JWS of one decision each.

use std::collections::HashMap;

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use relaytrace_domain::Timestamp;
use serde_json::Value;

use crate::{Finding, Findings, asked, json_in, text};

/// The claims of a receipt whose signature holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt(HashMap<String, Value>);

impl Receipt {
    fn get(&self, claim: &str) -> &Value {
        self.0.get(claim).unwrap_or(&Value::Null)
    }

    /// The deployment that states it.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.get("iss").as_str()
    }

    /// The request that it is about.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.get("sub").as_str()
    }
}

/// The receipt in this compact JWS, signed by one of these keys.
///
/// # Errors
/// The first that does not hold: nothing in a receipt counts before its signature does.
pub fn verify_receipt(compact: &str, jwks: &JwkSet) -> Result<Receipt, Finding> {
    let finding = |field: &str, what: &str| Finding { entry: None, field: field.into(), what: what.into() };
    let header =
        jsonwebtoken::decode_header(compact).map_err(|_| finding("header", "cannot be read: not a receipt"))?;
    if header.alg != Algorithm::EdDSA {
        return Err(finding("alg", "is not EdDSA"));
    }
    if header.typ.as_deref() != Some("relaytrace-receipt+jwt") {
        return Err(finding("typ", "is not relaytrace-receipt+jwt"));
    }
    let jwk = header.kid.as_deref().and_then(|key_id| jwks.find(key_id)).filter(|jwk| signs_receipts(jwk));
    let key = jwk.and_then(|jwk| DecodingKey::from_jwk(jwk).ok());
    let key = key.ok_or_else(|| finding("kid", "is not a receipt key of the JWK set"))?;
    // A receipt does not expire and is for everyone.
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let token = jsonwebtoken::decode::<HashMap<String, Value>>(compact, &key, &validation)
        .map_err(|_| finding("signature", "does not verify"))?;
    let receipt = Receipt(token.claims);
    let decided_at = receipt.get("decided_at").as_str().and_then(|text| text.parse::<Timestamp>().ok());
    if decided_at.is_none_or(|at| receipt.get("iat") != &Value::from(at.0.timestamp())) {
        return Err(finding("iat", "is not decided_at, rounded down"));
    }
    Ok(receipt)
}

/// Keys of another use, such as attestations, say nothing by a receipt.
fn signs_receipts(jwk: &Jwk) -> bool {
    matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature))
}

/// Everything in which an exported chain is not the one that the receipt states. This finds a chain that was recomputed
/// as a whole, or cut off before the decision.
#[must_use]
pub fn verify_against_chain(receipt: &Receipt, export: &Value) -> Vec<Finding> {
    let mut findings = Findings::default();
    let is_same = receipt.get("sub") == &export["request_id"];
    findings.check(is_same, None, "/request_id", "is not the receipt's sub");
    let length = receipt.get("chain_length").as_u64().and_then(|length| usize::try_from(length).ok());
    let index = length.unwrap_or_default().wrapping_sub(1);
    let Some(decided) = export["entries"].get(index) else {
        findings.add(None, "/entries", "are fewer than the receipt's chain_length");
        return findings.0;
    };
    let (number, at) = (Some(index + 1), |field: &str| format!("/entries/{index}/{field}"));
    let is_head = receipt.get("chain_head") == &decided["hash"];
    findings.check(is_head, number, at("hash"), "is not the receipt's chain_head");
    let content = json_in(decided, "entry");
    findings.check(text(&content, "kind") == Some("decided"), number, at("kind"), "is not the receipt's decision");
    for (claim, member) in [
        ("outcome", "outcome"),
        ("cause", "cause"),
        ("decided_at", "at"),
        ("action_digest", "action_digest"),
        // Of an edit and a response; absent from both elsewhere.
        ("requested_action_digest", "requested_action_digest"),
        ("edited", "edited"),
        ("response_digest", "response_digest"),
        // From a declared restore on.
        ("epoch", "epoch"),
    ] {
        let holds = receipt.get(claim) == &content[member];
        findings.check(holds, number, at("entry"), format!("does not have the receipt's {claim}"));
    }
    for member in ["kind", "id", "name", "for"] {
        let holds = receipt.get("decided_by")[member] == content["actor"][member];
        findings.check(holds, number, at("actor"), format!("does not have the {member} of the receipt's decided_by"));
    }
    let votes = |list: &Value, by: &str, at: &str| -> Vec<[Value; 2]> {
        list.as_array().into_iter().flatten().map(|vote| [voter(&vote[by]), vote[at].clone()]).collect()
    };
    let holds = receipt.get("votes").is_null() == content["votes"].is_null()
        && votes(receipt.get("votes"), "voted_by", "voted_at") == votes(&content["votes"], "actor", "at");
    findings.check(holds, number, at("entry"), "does not have the receipt's votes");
    let asked = asked(export);
    for claim in ["agent_id", "client_request_key", "action_type"] {
        let holds = receipt.get(claim) == &asked[claim];
        findings.check(holds, None, "/envelope", format!("does not have the receipt's {claim}"));
    }
    findings.0
}

/// Who voted, without members that are null.
fn voter(actor: &Value) -> Value {
    let members = actor.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    members.map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}
