//! Bearer keys: opaque secrets that an agent sends as they are (contract, "Bearer keys").

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::response_secret::derive;
use relaytrace_domain::{AgentId, Digest, KeyId};
use relaytrace_domain::{Error, Result};

const PREFIX: &str = "rtk_";
/// Characters of the secret: 32 bytes as base64url without padding.
const SECRET_LENGTH: usize = 43;

/// The secret that bearer tokens are derived from, so that a registration can be answered again until the key's first
/// use although no token is stored.
pub struct BearerMaster(SecretSlice<u8>);

impl fmt::Debug for BearerMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerMaster")
    }
}

impl BearerMaster {
    /// From at least 32 random bytes.
    #[must_use]
    pub fn new(secret: SecretSlice<u8>) -> Self {
        Self(secret)
    }

    /// The token of this key: `rtk_`, its id, `_`, and 43 base64url characters.
    ///
    /// # Errors
    /// [`Error::Internal`] where HKDF fails.
    pub fn token(&self, agent_id: &AgentId, key_id: &KeyId) -> Result<SecretString> {
        let secret = derive(self.0.expose_secret(), b"relaytrace-bearer-token-v1", agent_id, key_id)?;
        Ok(format!("{PREFIX}{key_id}_{}", BASE64_URL_SAFE_NO_PAD.encode(secret)).into())
    }
}

/// Whether this is meant as a bearer key's token and not as a JWT.
pub(super) fn is_bearer(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// The id of the key that a token claims to be.
pub(super) fn key_id_of(token: &str) -> Result<KeyId> {
    const SHAPE: Error = Error::Unauthenticated("not the shape of a bearer key");
    let rest = token.strip_prefix(PREFIX).ok_or(SHAPE)?;
    let (key_id, secret) = rest.split_at_checked(rest.len().saturating_sub(SECRET_LENGTH)).ok_or(SHAPE)?;
    if !secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err(SHAPE);
    }
    key_id.strip_suffix('_').and_then(|key_id| key_id.parse().ok()).ok_or(SHAPE)
}

/// The digest of a token that is stored in place of it.
#[must_use]
pub fn token_digest(token: &SecretString) -> [u8; 32] {
    Digest::of(token.expose_secret().as_bytes()).0
}

/// Whether it is the token whose digest this is. Takes the same time wherever they differ.
pub(super) fn is_token_of(token: &str, digest: &[u8]) -> bool {
    verify_slices_are_equal(&Digest::of(token.as_bytes()).0, digest).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_key_whatever_is_in_both() {
        let master = BearerMaster::new(vec![7; 32].into());
        for key_id in ["k", "a_b", "_", "a__", "rtk_x_y", "-.-"] {
            let key_id: KeyId = key_id.parse().unwrap();
            let token = master.token(&"a".parse().unwrap(), &key_id).unwrap();
            assert_eq!(key_id_of(token.expose_secret()).unwrap(), key_id);
            assert!(is_token_of(token.expose_secret(), &token_digest(&token)));
            let other = master.token(&"b".parse().unwrap(), &key_id).unwrap();
            assert!(!is_token_of(other.expose_secret(), &token_digest(&token)));
        }
    }

    #[test]
    fn what_has_another_shape_names_no_key() {
        let secret = "A".repeat(SECRET_LENGTH);
        for bad in [
            "rtk_".into(),
            format!("rtk_{secret}"),
            format!("rtk__{secret}"),
            format!("rtk_k{secret}"),
            format!("rtk_k_{secret}="),
            format!("rtk_k_{}", &secret[1..]),
            format!("rtk_k/_{secret}"),
            format!("k_{secret}"),
        ] {
            assert!(key_id_of(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let master = BearerMaster::new(vec![65; 32].into());
        let token = master.token(&"a".parse().unwrap(), &"k".parse().unwrap()).unwrap();
        assert_eq!(format!("{master:?}"), "BearerMaster");
        assert!(!format!("{token:?}").contains("rtk_"));
    }
}
