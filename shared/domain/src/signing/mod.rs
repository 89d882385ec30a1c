//! Signatures of RelayTrace: responses to agents (HMAC, per agent key), receipts (Ed25519, the deployment's key), and
//! decisions before they are made (Ed25519, a key of each deciding function).

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

mod attestation;
mod known;
mod made;
mod receipt;
mod response;

pub use attestation::{Attestation, AttestationKeys, Attestor, Ballot, Statement, attestation_jwk};
pub use receipt::{ReceiptKey, ReceiptKeys, StoredDecision};
pub use response::{ResponseSignature, SignedResponse};

type Name = [u8; SHA256_OUTPUT_LEN];

/// A name of these parts. Each with its length: no two lists have one name.
fn name_of(parts: &[&[u8]]) -> Name {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut name = [0; SHA256_OUTPUT_LEN];
    name.copy_from_slice(context.finish().as_ref());
    name
}
