//! Signatures that hold, as this process knows because it has checked or made them.
//!
//! A decision's attestation is checked wherever a receipt is signed: in the process that made it, and at each delivery and
//! each look again. What was checked is named by a hash of everything that the check reads, so that a signature that holds
//! for another message or key is not among them.

use std::fmt;
use std::sync::Arc;

use quick_cache::sync::Cache;

use super::{Name, name_of};

/// How many are remembered: some 100 bytes each.
const MOST: usize = 10_000;

/// Some signatures that hold. Clones share them.
#[derive(Clone)]
pub(super) struct Known(Arc<Cache<Name, ()>>);

impl Default for Known {
    fn default() -> Self {
        Self(Arc::new(Cache::new(MOST)))
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Known({})", self.0.len())
    }
}

impl Known {
    /// Whether the signature holds, of which `check` finds out where it is not known.
    pub(super) fn holds(&self, public: &[u8], message: &[u8], signature: &[u8], check: impl FnOnce() -> bool) -> bool {
        let name = name_of(&[public, signature, message]);
        if self.0.get(&name).is_some() {
            return true;
        }
        let holds = check();
        if holds {
            self.0.insert(name, ());
        }
        holds
    }

    /// Notes a signature that was just made.
    pub(super) fn add(&self, public: &[u8], message: &[u8], signature: &[u8]) {
        self.0.insert(name_of(&[public, signature, message]), ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_known_for_its_own_key_and_message_alone() {
        let known = Known::default();
        known.add(b"key", b"message", b"signature");
        assert!(known.clone().holds(b"key", b"message", b"signature", || false));
        for (public, message, signature) in [
            (&b"other"[..], &b"message"[..], &b"signature"[..]),
            (b"key", b"other", b"signature"),
            (b"key", b"message", b"other"),
            // The same bytes, divided elsewhere.
            (b"keym", b"essage", b"signature"),
            (b"key", b"emessage", b"signatur"),
        ] {
            assert!(!known.holds(public, message, signature, || false));
        }
    }

    #[test]
    fn what_does_not_hold_is_not_remembered() {
        let known = Known::default();
        assert!(!known.holds(b"key", b"message", b"signature", || false));
        assert!(known.holds(b"key", b"message", b"signature", || true));
        assert!(known.holds(b"key", b"message", b"signature", || false));
    }
}
