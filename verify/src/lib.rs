//! Offline verification of receipts and exported chains (contract, "Receipts", "Chain", "Attestation").
//!
//! Nothing here needs a server. Every check is made whatever the others found, so that one run names everything that
//! does not hold, and where.

mod attestation;
mod chain;
mod event;
mod receipt;

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use relaytrace_domain::Protocol;
use serde::Serialize;
use serde_json::Value;

pub use attestation::{attestation_keys, verify_attestations};
pub use chain::{notes_on_chain, verify_chain};
pub use event::verify_event;
pub use receipt::{Receipt, verify_against_chain, verify_receipt};

/// Something that does not verify, or that a reader should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The entry that it is in, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<usize>,
    /// The field: an RFC 6901 pointer into the export, or a receipt's claim.
    pub field: String,
    /// The fault, in words.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = self.entry {
            write!(f, "entry {entry}: ")?;
        }
        write!(f, "{} {}", self.field, self.what)
    }
}

/// All faults, in the order of the document.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, entry: Option<usize>, field: impl Into<String>, what: impl Into<String>) {
        self.0.push(Finding { entry, field: field.into(), what: what.into() });
    }

    /// A finding unless it holds.
    fn check(&mut self, holds: bool, entry: Option<usize>, field: impl Into<String>, what: impl Into<String>) {
        if !holds {
            self.add(entry, field, what);
        }
    }
}

/// The member of an object as text, or nothing.
fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

/// Whether an export says that its envelope was erased, and has none.
fn is_erased(export: &Value) -> bool {
    export["erased"] == true && export["envelope"].is_null()
}

/// What was asked, in the members that receipts and events have of it: by the envelope or, where that was erased or is in
/// the words of another protocol, by the submitted entry.
fn asked(export: &Value) -> Value {
    let mut submitted = json_in(&export["entries"][0], "entry");
    if is_erased(export) || submitted["protocol"] == Protocol::Aap.as_str() {
        submitted["agent_id"] = submitted["actor"]["id"].take();
        return submitted;
    }
    let mut envelope = json_in(export, "envelope");
    envelope["action_type"] = envelope["action"]["type"].take();
    envelope
}

/// The JSON in a member of base64; null where there is none.
fn json_in(object: &Value, name: &str) -> Value {
    let bytes = text(object, name).and_then(|text| BASE64_STANDARD.decode(text).ok());
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
