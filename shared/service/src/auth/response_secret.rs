//! The secrets that responses to agents are signed with (contract, "Signed responses").

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::{hkdf, hmac};
use base64::prelude::{BASE64_STANDARD, Engine};
use secrecy::{ExposeSecret, SecretSlice};

use relaytrace_domain::{AgentId, KeyId};
use relaytrace_domain::{Error, Result};

/// Master secrets by their id. New keys are derived from the current one; older ones serve the keys whose rows name
/// them.
#[derive(Default)]
pub struct MasterSecrets {
    current: String,
    secrets: HashMap<String, SecretSlice<u8>>,
}

impl fmt::Debug for MasterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterSecrets({})", self.current)
    }
}

/// Signs the responses to one agent key.
pub struct ResponseKey {
    /// Goes into the signature as `keyid`.
    pub key_id: KeyId,
    /// HMAC-SHA256.
    pub hmac: hmac::Key,
}

impl fmt::Debug for ResponseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseKey({})", self.key_id)
    }
}

struct ThirtyTwoBytes;

impl hkdf::KeyType for ThirtyTwoBytes {
    fn len(&self) -> usize {
        32
    }
}

/// HKDF-SHA256 (RFC 5869) over agent and key id, each with its length before it.
pub(super) fn derive(master: &[u8], purpose: &[u8], agent_id: &AgentId, key_id: &KeyId) -> Result<[u8; 32]> {
    let (agent_id, key_id) = (agent_id.as_str().as_bytes(), key_id.as_str().as_bytes());
    // Both are at most 128 bytes long.
    #[expect(clippy::cast_possible_truncation, reason = "at most 128")]
    let info = [&[agent_id.len() as u8], agent_id, &[key_id.len() as u8], key_id];
    let mut secret = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, purpose)
        .extract(master)
        .expand(&info, ThirtyTwoBytes)
        .and_then(|okm| okm.fill(&mut secret))
        .map_err(|_| Error::internal(anyhow::anyhow!("HKDF refused 32 bytes")))?;
    Ok(secret)
}

impl MasterSecrets {
    /// The first secret is the current one. At least one is needed.
    #[must_use]
    pub fn new(current: (String, SecretSlice<u8>), older: impl IntoIterator<Item = (String, SecretSlice<u8>)>) -> Self {
        let name = current.0.clone();
        Self { current: name, secrets: older.into_iter().chain([current]).collect() }
    }

    /// Whether there is none: this process knows no agents.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Id of the secret that new keys are derived from.
    #[must_use]
    pub fn current(&self) -> &str {
        &self.current
    }

    /// The response secret of an agent key.
    ///
    /// # Errors
    /// [`Error::Internal`] where the deployment no longer has that master secret.
    pub fn response_secret(&self, master_id: &str, agent_id: &AgentId, key_id: &KeyId) -> Result<[u8; 32]> {
        let missing = || Error::internal(anyhow::anyhow!("the master secret {master_id} is not configured"));
        let master = self.secrets.get(master_id).ok_or_else(missing)?;
        derive(master.expose_secret(), b"relaytrace-response-secret-v1", agent_id, key_id)
    }

    /// The same as it is shown once: standard base64.
    ///
    /// # Errors
    /// As [`MasterSecrets::response_secret`].
    pub fn response_secret_text(&self, master_id: &str, agent_id: &AgentId, key_id: &KeyId) -> Result<String> {
        self.response_secret(master_id, agent_id, key_id).map(|secret| BASE64_STANDARD.encode(secret))
    }

    /// The same as a key that signs.
    pub fn response_key(&self, master_id: &str, agent_id: &AgentId, key_id: &KeyId) -> Result<ResponseKey> {
        let secret = self.response_secret(master_id, agent_id, key_id)?;
        Ok(ResponseKey { key_id: key_id.clone(), hmac: hmac::Key::new(hmac::HMAC_SHA256, &secret) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret_of(agent_id: &str, key_id: &str) -> [u8; 32] {
        let masters = MasterSecrets::new(("1".into(), vec![7; 32].into()), []);
        masters.response_secret("1", &agent_id.parse().unwrap(), &key_id.parse().unwrap()).unwrap()
    }

    #[test]
    fn secrets_differ_by_where_the_agent_id_ends() {
        assert_eq!(secret_of("a", "bc"), secret_of("a", "bc"));
        assert_ne!(secret_of("a", "bc"), secret_of("ab", "c"));
    }

    #[test]
    fn a_key_of_a_forgotten_master_is_an_error() {
        let masters = MasterSecrets::new(("2".into(), vec![7; 32].into()), []);
        let derived = masters.response_secret("1", &"a".parse().unwrap(), &"k".parse().unwrap());
        assert!(matches!(derived, Err(Error::Internal(_))));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let masters = MasterSecrets::new(("m".into(), vec![65; 32].into()), []);
        let key = masters.response_key("m", &"a".parse().unwrap(), &"k".parse().unwrap()).unwrap();
        assert_eq!((format!("{masters:?}"), format!("{key:?}")), ("MasterSecrets(m)".into(), "ResponseKey(k)".into()));
    }
}
