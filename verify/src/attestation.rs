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
