//! Receipts that this process has signed. The same decision and key give the same receipt, and an agent may ask for it
//! again: it polls, looks, and is told of a duplicate.
//!
//! A signature is found by a hash of all that its receipt is made of and checked by, so that what was changed in the
//! database is checked anew. The receipt's text is not kept: it is made in a tenth of the time, and ten times as long.

use std::fmt;

use quick_cache::sync::Cache;

use super::receipt::StoredDecision;
use super::{Name, name_of};
use crate::{AgentId, Written};

/// How many are remembered: some 150 bytes each.
const MOST: usize = 10_000;

/// An Ed25519 signature (RFC 8032, section 5.1.6).
pub(super) type Signature = [u8; 64];

/// Some signatures of receipts.
pub(super) struct Made(Cache<Name, Signature>);

impl Default for Made {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Made({})", self.0.len())
    }
}

impl Made {
    /// The signature of the receipt that has this name; `None`: it is not known.
    pub(super) fn signature(&self, name: &Name) -> Option<Signature> {
        self.0.get(name)
    }

    /// Notes a signature that was just made.
    pub(super) fn add(&self, name: Name, signature: Signature) {
        self.0.insert(name, signature);
    }
}

/// The name of a receipt: of all that it is made of and checked by.
pub(super) fn name(stored: &StoredDecision<'_>, agent_id: &AgentId) -> Name {
    const NONE: &[u8] = &[];
    // Every member: one that is added and not named here does not compile.
    let StoredDecision {
        request_id,
        submitted,
        submitted_hash,
        client_request_key,
        action_type,
        entry,
        prev_hash,
        hash,
        permit,
        is_from_before,
        written,
    } = stored;
    let permit = permit.map(|permit| permit.expires_at.0.timestamp_micros().to_be_bytes());
    let action = written.and_then(Written::action).map(|(_, digest)| digest.0);
    let response = written.and_then(Written::response).map(|(_, digest)| digest.0);
    name_of(&[
        request_id.0.as_bytes().as_slice(),
        *submitted,
        &submitted_hash.0,
        client_request_key.as_str().as_bytes(),
        action_type.as_bytes(),
        *entry,
        &prev_hash.0,
        &hash.0,
        permit.as_ref().map_or(NONE, <[u8; 8]>::as_slice),
        &[u8::from(*is_from_before)],
        action.as_ref().map_or(NONE, <[u8; 32]>::as_slice),
        response.as_ref().map_or(NONE, <[u8; 32]>::as_slice),
        agent_id.as_str().as_bytes(),
    ])
}
