//! Secrets of channels and of agents' push, encrypted where they are stored (`CHANNEL_KEY`).

use std::fmt;

use anyhow::anyhow;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::prelude::{BASE64_STANDARD, Engine};
use relaytrace_domain::{Error, Result};
use secrecy::SecretString;

/// What sealed bytes begin with.
const VERSION: u8 = 1;
/// Bytes of a key.
const KEY_LENGTH: usize = 32;

/// Keys of AES-256-GCM: secrets are sealed with the first and opened with any. Each sealing draws a nonce.
pub struct ChannelKeys(Vec<RandomizedNonceKey>);

impl fmt::Debug for ChannelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelKeys")
    }
}

impl ChannelKeys {
    /// Reads keys: base64 of 32 bytes each, comma-separated, the newest first.
    ///
    /// # Errors
    /// A sentence for the deployment.
    pub fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        const RULE: &str = "must be base64 of 32 bytes; earlier keys after it, comma-separated";
        let keys = text.split(',').map(|part| {
            let key = BASE64_STANDARD.decode(part.trim()).map_err(|_| RULE)?;
            let key = (key.len() == KEY_LENGTH).then_some(key).ok_or(RULE)?;
            RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| RULE)
        });
        keys.collect::<std::result::Result<_, _>>().map(Self)
    }

    /// Seals a secret for this place alone: it opens nowhere else.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn seal(&self, place: &str, secret: &str) -> Result<Vec<u8>> {
        let key = self.0.first().ok_or_else(|| Error::internal(anyhow!("there is no key for channels")))?;
        let mut sealed = secret.as_bytes().to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(place), &mut sealed)
            .map_err(|_| Error::internal(anyhow!("a secret could not be sealed")))?;
        Ok([&[VERSION], nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// [`Error::Internal`] where no key opens it.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<SecretString> {
        let refused = || Error::internal(anyhow!("no key of CHANNEL_KEY opens a stored secret"));
        let rest = sealed.strip_prefix(&[VERSION]).ok_or_else(refused)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN).ok_or_else(refused)?;
        for key in &self.0 {
            let mut bytes = rest.to_vec();
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
            if let Ok(secret) = key.open_in_place(nonce, Aad::from(place), &mut bytes) {
                return String::from_utf8(secret.to_vec()).map(SecretString::from).map_err(|_| refused());
            }
        }
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn key(byte: u8) -> String {
        BASE64_STANDARD.encode([byte; 32])
    }

    #[test]
    fn a_secret_opens_at_its_place_with_any_of_the_keys() {
        let old = ChannelKeys::parse(&key(1)).unwrap();
        let sealed = old.seal("default/ops", "whsec_x").unwrap();
        assert!(!sealed.windows(7).any(|bytes| bytes == b"whsec_x"));
        assert_ne!(sealed, old.seal("default/ops", "whsec_x").unwrap());
        let both = ChannelKeys::parse(&format!("{}, {}", key(2), key(1))).unwrap();
        assert_eq!(both.open("default/ops", &sealed).unwrap().expose_secret(), "whsec_x");
        assert!(both.open("acme/ops", &sealed).is_err());
        assert!(ChannelKeys::parse(&key(2)).unwrap().open("default/ops", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(old.open("default/ops", &changed).is_err(), "{at}");
            assert!(old.open("default/ops", &sealed[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "x", &BASE64_STANDARD.encode([1; 31]), &format!("{},", key(1))] {
            assert!(ChannelKeys::parse(text).is_err(), "{text}");
        }
        assert_eq!(format!("{:?}", ChannelKeys::parse(&key(1)).unwrap()), "ChannelKeys");
    }
}
