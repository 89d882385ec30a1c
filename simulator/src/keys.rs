//! New Ed25519 keys, in the forms in which they are registered and used.

use anyhow::{Context as _, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::prelude::{BASE64_STANDARD, Engine as _};

/// RFC 8410, section 4: the fixed start of an Ed25519 `SubjectPublicKeyInfo`.
const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key pair.
pub struct NewKey {
    /// PKCS#8, DER.
    pub pkcs8: Vec<u8>,
    /// `SubjectPublicKeyInfo`, PEM.
    pub public_pem: String,
}

impl NewKey {
    /// A random one.
    pub fn generate() -> Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).ok().context("no key could be made")?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8.as_ref()).ok().context("a key made is none")?;
        let spki = [PREFIX.as_slice(), pair.public_key().as_ref()].concat();
        Ok(Self { pkcs8: pkcs8.as_ref().to_vec(), public_pem: pem("PUBLIC KEY", &spki) })
    }

    /// PKCS#8, PEM.
    pub fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
