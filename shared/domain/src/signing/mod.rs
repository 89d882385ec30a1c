//! What RelayTrace signs: responses to agents (HMAC, per agent key) and receipts (Ed25519, the deployment's key).

mod receipt;
mod response;

pub use receipt::{ReceiptKey, ReceiptKeys, StoredDecision};
pub use response::{ResponseSignature, SignedResponse};
