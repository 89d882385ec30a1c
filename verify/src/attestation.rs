//! Attestations: what the functions that decide signed of their decisions (contract, "Attestation").

use base64::prelude::{BASE64_STANDARD, Engine};
use relaytrace_domain::signing::{Attestation, AttestationKeys};
use serde_json::{Value, json};

use crate::{Finding, Findings, text};

/// The keys of a JWK set whose `use` is `attestation` and that have `causes`. No other key attests anything.
///
/// # Errors
/// What one of these keys lacks.
pub fn attestation_keys(jwks: &Value) -> Result<AttestationKeys, &'static str> {
    let keys = jwks["keys"].as_array().into_iter().flatten();
    let attesting = keys.filter(|jwk| jwk["use"] == "attestation" && jwk.get("causes").is_some());
    AttestationKeys::from_jwks(&json!({"keys": attesting.collect::<Vec<_>>()}))
}

/// Every decision and vote of an exported chain whose attestation does not hold by these keys: it was made or changed past
/// the functions that may decide so. A decision or vote without an attestation is no finding; [`crate::notes_on_chain`] names it.
#[must_use]
pub fn verify_attestations(export: &Value, keys: &AttestationKeys) -> Vec<Finding> {
    let mut findings = Findings::default();
    for (index, entry) in export["entries"].as_array().into_iter().flatten().enumerate() {
        let bytes = text(entry, "entry").and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default();
        let content: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if !matches!(text(&content, "kind"), Some("decided" | "voted")) {
            continue;
        }
        if let Attestation::Invalid(why) = keys.check(&bytes) {
            findings.add(Some(index + 1), format!("/entries/{index}/entry"), format!("has an attestation that {why}"));
        }
    }
    findings.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify_chain;

    /// Made by another library: the keys of a deployment, and a chain with two votes before its decision.
    fn vector() -> (AttestationKeys, Value) {
        let vector: Value = serde_json::from_str(include_str!("../../contract/vectors/votes.json")).expect("a vector");
        (attestation_keys(&vector).expect("a vector"), vector["chain"].clone())
    }

    /// The export with a change of an entry's content; its hashes are not looked at here.
    fn changed(chain: &Value, index: usize, change: impl Fn(&mut Value)) -> Value {
        let mut chain = chain.clone();
        let bytes = BASE64_STANDARD.decode(chain["entries"][index]["entry"].as_str().expect("a vector"));
        let mut content = serde_json::from_slice(&bytes.expect("a vector")).expect("a vector");
        change(&mut content);
        chain["entries"][index]["entry"] = BASE64_STANDARD.encode(content.to_string()).into();
        chain
    }

    #[test]
    fn votes_and_their_decision_hold_by_the_fixed_vector_and_no_change_of_them_does() {
        let (keys, chain) = vector();
        assert_eq!(verify_chain(&chain), []);
        assert_eq!(verify_attestations(&chain, &keys), []);
        let found = |index: usize, change: &dyn Fn(&mut Value)| {
            let findings = verify_attestations(&changed(&chain, index, change), &keys);
            findings.iter().map(|finding| finding.entry).collect::<Vec<_>>()
        };
        assert_eq!(found(1, &|voted| voted["actor"]["id"] = "eve".into()), [Some(2)]);
        assert_eq!(found(2, &|voted| drop(voted["actor"].as_object_mut().map(|actor| actor.remove("for")))), [Some(3)]);
        assert_eq!(found(3, &|decided| decided["votes"][0]["actor"]["id"] = "eve".into()), [Some(4)]);
        assert_eq!(found(3, &|decided| decided["votes"][1] = decided["votes"][0].clone()), [Some(4)]);
        assert_eq!(found(3, &|decided| decided["votes"][2]["reason"] = "another".into()), [Some(4)]);
        let fewer = changed(&chain, 3, |decided| drop(decided["votes"].as_array_mut().map(|votes| votes.remove(0))));
        assert_eq!(verify_attestations(&fewer, &keys), [], "each that is listed holds");
        let findings = verify_chain(&fewer).into_iter().map(|finding| finding.what);
        assert!(findings.into_iter().any(|what| what.contains("fewer votes")));
    }
}
