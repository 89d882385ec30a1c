//! Signatures of RelayTrace: responses to agents (HMAC, per agent key), receipts (Ed25519, the deployment's key), and
//! decisions before they are made (Ed25519, a key of each deciding function).

mod attestation;
mod known;
mod made;
mod receipt;
mod response;

pub use attestation::{Attestation, AttestationKeys, Attestor, Ballot, Statement, attestation_jwk};
pub use receipt::{ReceiptKey, ReceiptKeys, StoredDecision};
pub use response::{ResponseSignature, SignedResponse};
