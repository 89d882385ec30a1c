//! Standard Webhooks 1.0: secrets and signatures.

use std::str::FromStr;

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue};
use relaytrace_domain::{Error, Result};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

const PREFIX: &str = "whsec_";
/// Bytes of a secret that we make.
const OWN_LENGTH: usize = 32;

/// The secret of a webhook: `whsec_` and base64 of 24 to 64 bytes.
#[derive(Clone, Debug)]
pub struct WebhookSecret(SecretSlice<u8>);

impl FromStr for WebhookSecret {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        const RULE: &str = "must be whsec_ and base64 of 24 to 64 bytes";
        let secret = text.strip_prefix(PREFIX).ok_or(RULE)?;
        let secret = BASE64_STANDARD.decode(secret).map_err(|_| RULE)?;
        if (24..=64).contains(&secret.len()) { Ok(Self(secret.into())) } else { Err(RULE) }
    }
}

impl WebhookSecret {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Internal`] where the system has no randomness.
    pub fn generate() -> Result<Self> {
        let mut secret = vec![0; OWN_LENGTH];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| Error::internal(anyhow::anyhow!("no randomness")))?;
        Ok(Self(secret.into()))
    }

    /// As the receiver is given it.
    #[must_use]
    pub fn text(&self) -> SecretString {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(self.0.expose_secret())).into()
    }

    fn sign(&self, signed: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret());
        format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(&key, signed)))
    }
}

/// The headers of a message: its id, the time of this try, and a signature by each secret.
///
/// # Errors
/// [`Error::Internal`] where one cannot be a header, which no id of ours is.
pub(crate) fn headers(secrets: &[WebhookSecret], id: &str, now: DateTime<Utc>, body: &[u8]) -> Result<HeaderMap> {
    let timestamp = now.timestamp().to_string();
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(&signed)).collect();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in
        [("webhook-id", id), ("webhook-timestamp", &timestamp), ("webhook-signature", &signatures.join(" "))]
    {
        headers.insert(name, HeaderValue::from_str(value).map_err(Error::internal)?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference implementations.
    #[test]
    fn a_signature_is_that_of_the_reference() {
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let now = DateTime::from_timestamp(1_614_265_330, 0).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let headers = headers(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", now, body).unwrap();
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
    }

    #[test]
    fn secrets_are_read_written_and_never_printed() {
        let made = WebhookSecret::generate().unwrap();
        let text = made.text();
        let read: WebhookSecret = text.expose_secret().parse().unwrap();
        assert_eq!(read.text().expose_secret(), text.expose_secret());
        assert!(!format!("{made:?}").contains(&text.expose_secret()[6..20]));
        let long = format!("whsec_{}", BASE64_STANDARD.encode([1; 65]));
        for bad in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", &long] {
            assert!(bad.parse::<WebhookSecret>().is_err(), "{bad}");
        }
    }
}
