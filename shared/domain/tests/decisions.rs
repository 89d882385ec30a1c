//! `contract/vectors/decisions.json`: decided entries, what operators wrote, and attestations, made by other libraries.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use relaytrace_domain::signing::{Attestation, AttestationKeys, Attestor, Statement};
use relaytrace_domain::{DecidedEntry, Digest, Json, JsonText, Outcome, Written, canonical_digest};
use serde_json::{Value, json};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../contract/vectors/decisions.json")).expect("a vector")
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().expect("a vector")
}

fn keys(vectors: &Value) -> AttestationKeys {
    AttestationKeys::from_jwks(&json!({"keys": vectors["keys"]})).expect("a vector")
}

/// The private keys, as a process is configured with them: RFC 8410 around each seed.
fn attestor(vectors: &Value) -> Attestor {
    let keys_of = vectors["keys"].as_array().expect("a vector").iter();
    let pems: String = keys_of
        .map(|key| {
            let mut pkcs8 = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
            pkcs8.extend(BASE64_URL_SAFE_NO_PAD.decode(text(key, "seed")).expect("a vector"));
            pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8))
        })
        .collect();
    Attestor::from_pem(&pems.into(), &keys(vectors)).expect("a vector")
}

/// What the operator wrote in a vector.
fn written(vector: &Value, outcome: Outcome) -> Option<Written> {
    let bytes = vector["written"].as_str()?.as_bytes();
    let digest = canonical_digest(&Json::parse(bytes).expect("a vector"));
    let text = JsonText::try_from(bytes.to_vec()).expect("a vector");
    Some(if outcome == Outcome::Responded { Written::Response(text, digest) } else { Written::Action(text, digest) })
}

#[test]
fn what_is_written_has_its_digest_and_the_entry_says_so() {
    let vectors = vectors();
    let asked: Digest = text(&vectors, "asked_digest").parse().expect("a vector");
    assert_eq!(canonical_digest(&Json::parse(text(&vectors, "asked").as_bytes()).expect("a vector")), asked);
    for vector in vectors["decisions"].as_array().expect("a vector") {
        let entry: DecidedEntry =
            serde_json::from_slice(&BASE64_STANDARD.decode(text(vector, "entry")).expect("a vector"))
                .expect("a vector");
        let name = text(vector, "name");
        let digest = vector["digest"].as_str().map(|digest| digest.parse::<Digest>().expect("a vector"));
        let edited = digest.filter(|_| entry.outcome == Outcome::Approved);
        match written(vector, entry.outcome) {
            Some(Written::Action(_, computed) | Written::Response(_, computed)) => {
                assert_eq!(Some(computed), digest, "{name}");
            }
            None => assert_eq!(digest, None, "{name}"),
        }
        assert_eq!(entry.action_digest, edited.unwrap_or(asked), "{name}");
        assert_eq!(entry.requested_action_digest, edited.map(|_| asked), "{name}");
        assert_eq!(entry.edited, edited.is_some_and(|edited| edited != asked), "{name}");
        assert_eq!(entry.response_digest, digest.filter(|_| entry.outcome == Outcome::Responded), "{name}");
    }
}

/// Where the bytes of a member's value are, which is the text or number after its name.
fn value_of(entry: &[u8], name: &str) -> std::ops::Range<usize> {
    let name_at = entry.windows(name.len()).position(|window| window == name.as_bytes()).expect("a vector");
    let start = name_at + name.len();
    start..start + entry[start..].iter().position(|byte| *byte == b',').expect("a vector")
}

#[test]
fn attestations_are_these_and_no_changed_byte_of_an_entry_passes() {
    let vectors = vectors();
    let (keys, attestor) = (keys(&vectors), attestor(&vectors));
    for vector in vectors["decisions"].as_array().expect("a vector") {
        let (name, bytes) = (text(vector, "name"), BASE64_STANDARD.decode(text(vector, "entry")).expect("a vector"));
        assert_eq!(keys.check(&bytes), Attestation::Valid, "{name}");
        let entry: DecidedEntry = serde_json::from_slice(&bytes).expect("a vector");
        let members: Value = serde_json::from_slice(&bytes).expect("a vector");
        let made = attestor.attest(&Statement {
            request_id: entry.request_id,
            outcome: entry.outcome,
            cause: entry.cause,
            actor: &entry.actor,
            action_digest: entry.requested_action_digest.unwrap_or(entry.action_digest),
            written: written(vector, entry.outcome).as_ref(),
            freeze_id: members["freeze_id"].as_str(),
            reason: entry.reason.as_deref(),
            key_id: members["key_id"].as_str(),
        });
        assert_eq!(
            serde_json::from_str::<Value>(&made.expect("a vector")).expect("a vector"),
            members["attestation"],
            "{name}"
        );
        // What only the database knows is not signed.
        let unsigned = ["\"seq\":", "\"at\":"].map(|name| value_of(&bytes, name));
        for at in (0..bytes.len()).filter(|at| !unsigned.iter().any(|value| value.contains(at))) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(keys.check(&changed), Attestation::Valid, "{name}: byte {at}");
        }
    }
}
