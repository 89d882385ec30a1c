//! Receipts that this process has made. The same decision and key give the same receipt, and an agent may ask for it again:
//! it polls, looks, and is told of a duplicate.
//!
//! A receipt is found by a hash of all that it is made of and checked by, so that what was changed in the database is
//! checked anew.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::receipt::StoredDecision;
use super::{Name, name_of};
use crate::{AgentId, DecidedEntry, Written};

/// Bytes of receipts that are remembered.
const MOST: u64 = 4 * 1024 * 1024;
/// About how long a receipt is, with its entry.
const USUAL: usize = 2_048;

type Receipt = Arc<(DecidedEntry, String)>;

#[derive(Clone)]
struct Bytes;

impl Weighter<Name, Receipt> for Bytes {
    fn weight(&self, _: &Name, receipt: &Receipt) -> u64 {
        // An entry is in the receipt, but for its reason.
        let reason = receipt.0.reason.as_ref().map_or(0, String::len);
        (2 * receipt.1.len() + reason) as u64
    }
}

/// Some receipts.
pub(super) struct Made(Cache<Name, Receipt, Bytes>);

impl Default for Made {
    fn default() -> Self {
        let most = usize::try_from(MOST).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(most / USUAL, MOST, Bytes))
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Made({})", self.0.len())
    }
}

impl Made {
    /// The receipt of this decision, made by `make` where it is not known.
    ///
    /// # Errors
    /// Those of `make`; nothing is remembered then.
    pub(super) fn receipt<E>(
        &self,
        stored: &StoredDecision<'_>,
        agent_id: &AgentId,
        make: impl FnOnce() -> Result<(DecidedEntry, String), E>,
    ) -> Result<(DecidedEntry, String), E> {
        let name = name(stored, agent_id);
        if let Some(receipt) = self.0.get(&name) {
            return Ok(receipt.as_ref().clone());
        }
        let receipt = make()?;
        self.0.insert(name, Arc::new(receipt.clone()));
        Ok(receipt)
    }
}

fn name(stored: &StoredDecision<'_>, agent_id: &AgentId) -> Name {
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
