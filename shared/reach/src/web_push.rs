//! Web Push: messages to browsers, each encrypted for its browser (RFC 8291) and signed by the deployment (RFC 8292).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use chrono::{DateTime, TimeDelta, Utc};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use relaytrace_domain::{Digest, Error, Faults, Result};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;
use web_push_native::{Auth, p256};

use crate::egress::{Egress, UNCALLABLE};

/// How long one signature is good: no longer than a day (RFC 8292, section 2).
const SIGNED_FOR: TimeDelta = TimeDelta::hours(12);
/// Bytes of a browser's public key, an uncompressed point (RFC 8291, section 3.1).
const POINT_LENGTH: usize = 65;
/// Bytes of a browser's secret (RFC 8291, section 3.2).
const AUTH_LENGTH: usize = 16;
/// The push services of Chrome, Firefox, Safari and Edge.
const KNOWN_HOSTS: &str =
    "fcm.googleapis.com,updates.push.services.mozilla.com,web.push.apple.com,*.push.apple.com,*.notify.windows.com";

/// Push services that may be called (`WEB_PUSH_HOSTS`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebPushHosts(Vec<String>);

impl Default for WebPushHosts {
    fn default() -> Self {
        Self(KNOWN_HOSTS.split(',').map(str::to_owned).collect())
    }
}

impl FromStr for WebPushHosts {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        const RULE: &str = "must be hosts such as fcm.googleapis.com or *.notify.windows.com, comma-separated";
        let hosts = text.split(',').map(str::trim).filter(|host| !host.is_empty()).map(|host| {
            let name = host.strip_prefix("*.").unwrap_or(host);
            let is_host = url::Host::parse(name).is_ok() && !name.contains('*');
            if is_host { Ok(host.to_ascii_lowercase()) } else { Err(RULE) }
        });
        hosts.collect::<std::result::Result<_, _>>().map(Self)
    }
}

impl WebPushHosts {
    fn admit(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        self.0.iter().any(|rule| match rule.strip_prefix('*') {
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == rule,
        })
    }
}

/// The deployment's key for push services (`VAPID_PRIVATE_KEY`), and whom they write to (`VAPID_SUBJECT`).
pub struct WebPushKey {
    key: EncodingKey,
    public: String,
    subject: String,
}

impl fmt::Debug for WebPushKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebPushKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl WebPushKey {
    /// Reads a P-256 private key, PKCS#8 PEM.
    ///
    /// # Errors
    /// A sentence for the deployment.
    pub fn from_pem(text: &SecretString, subject: String) -> std::result::Result<Self, &'static str> {
        const RULE: &str = "is not a P-256 private key in PKCS#8 PEM";
        let pem = pem::parse(text.expose_secret()).map_err(|_| RULE)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pem.contents()).map_err(|_| RULE)?;
        let public = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
        Ok(Self { key: EncodingKey::from_ec_der(pem.contents()), public, subject })
    }

    /// What browsers subscribe with: base64url of the public key.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Reads `VAPID_PUBLIC_KEY`.
    ///
    /// # Errors
    /// A sentence for the deployment.
    pub fn check_public(text: &str) -> std::result::Result<String, &'static str> {
        let is_point = point(text).is_some();
        if is_point { Ok(text.to_owned()) } else { Err("must be base64url of a P-256 public key of 65 bytes") }
    }

    /// Reads `VAPID_SUBJECT`.
    ///
    /// # Errors
    /// A sentence for the deployment.
    pub fn check_subject(text: &str) -> std::result::Result<String, &'static str> {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "mailto" | "https") => Ok(text.to_owned()),
            _ => Err("must be mailto: and an address, or an https URL"),
        }
    }

    fn authorization(&self, endpoint: &Url, now: DateTime<Utc>) -> Result<HeaderValue> {
        let expires_at = (now + SIGNED_FOR).timestamp();
        let claims = json!({"aud": endpoint.origin().ascii_serialization(), "exp": expires_at, "sub": self.subject});
        let token =
            jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key).map_err(Error::internal)?;
        let mut value =
            HeaderValue::try_from(format!("vapid t={token}, k={}", self.public)).map_err(Error::internal)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn point(text: &str) -> Option<p256::PublicKey> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    if bytes.len() == POINT_LENGTH { p256::PublicKey::from_sec1_bytes(&bytes).ok() } else { None }
}

fn auth(text: &str) -> Option<Auth> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    <[u8; AUTH_LENGTH]>::try_from(bytes).ok().map(Auth::from)
}

/// Where a browser is reached, as it says itself (W3C Push API, `PushSubscription`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// At its push service.
    pub endpoint: String,
    /// Its public key, base64url.
    pub p256dh: String,
    /// Its secret for these messages, base64url.
    pub auth: String,
}

impl Subscription {
    /// Adds what is wrong with it.
    pub fn check(&self, egress: &Egress, hosts: &WebPushHosts, faults: &mut Faults) {
        if !self.is_at(egress, hosts) {
            faults.add("/endpoint", UNCALLABLE);
        }
        if point(&self.p256dh).is_none() {
            faults.add("/keys/p256dh", "must be base64url of a P-256 public key of 65 bytes");
        }
        if auth(&self.auth).is_none() {
            faults.add("/keys/auth", "must be base64url of 16 bytes");
        }
    }

    /// Whether its endpoint may be called, as far as the URL says.
    pub(crate) fn is_at(&self, egress: &Egress, hosts: &WebPushHosts) -> bool {
        egress.check(&self.endpoint).is_ok_and(|url| hosts.admit(&url))
    }

    /// As it is stored.
    #[must_use]
    pub fn stored(&self) -> Value {
        json!({"endpoint": self.endpoint, "p256dh": self.p256dh, "auth": self.auth})
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// [`Error::Internal`] where nothing of ours was.
    pub fn read(stored: &Value) -> Result<Self> {
        let member = |name: &str| stored[name].as_str().map(str::to_owned);
        let read =
            (|| Some(Self { endpoint: member("endpoint")?, p256dh: member("p256dh")?, auth: member("auth")? }))();
        read.ok_or_else(|| Error::internal(anyhow::anyhow!("a stored push subscription is not as they are stored")))
    }

    /// The same for the same browser: of its endpoint alone, however it is written.
    ///
    /// # Errors
    /// [`Error::Internal`] where the endpoint is no URL, which [`Self::check`] does not let through.
    pub fn digest(&self) -> Result<Digest> {
        let mut endpoint = Url::parse(&self.endpoint).map_err(Error::internal)?;
        endpoint.set_fragment(None);
        Ok(Digest::of(endpoint.as_str().as_bytes()))
    }
}

/// How a push service treats a message (RFC 8030, section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handling {
    /// How long it keeps it for a browser that is away, in seconds.
    pub ttl_seconds: u64,
    /// Whether it wakes a device that saves power.
    pub is_urgent: bool,
    /// A later message of the same topic takes its place: at most 32 characters of base64url.
    pub topic: String,
}

/// What is sent: headers, and the body that only the browser can read.
pub(crate) fn request(
    key: &WebPushKey,
    to: &Subscription,
    handling: &Handling,
    body: Vec<u8>,
    now: DateTime<Utc>,
) -> Result<(HeaderMap, Vec<u8>)> {
    let broken = || Error::internal(anyhow::anyhow!("a stored push subscription has no keys"));
    let endpoint = Url::parse(&to.endpoint).map_err(Error::internal)?;
    let (public, secret) = point(&to.p256dh).zip(auth(&to.auth)).ok_or_else(broken)?;
    let body = web_push_native::encrypt(body, &public, &secret).map_err(Error::internal)?;
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, key.authorization(&endpoint, now)?);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("aes128gcm"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(HeaderName::from_static("ttl"), handling.ttl_seconds.into());
    let urgency = if handling.is_urgent { "high" } else { "normal" };
    headers.insert(HeaderName::from_static("urgency"), HeaderValue::from_static(urgency));
    let topic = HeaderValue::from_str(&handling.topic).map_err(Error::internal)?;
    headers.insert(HeaderName::from_static("topic"), topic);
    Ok((headers, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8291, appendix A.
    const RECEIVER_PRIVATE: &str = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";
    const RECEIVER_PUBLIC: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";
    const BODY_OF_THE_RFC: &str = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";

    fn receiver() -> p256::SecretKey {
        p256::SecretKey::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(RECEIVER_PRIVATE).unwrap()).unwrap()
    }

    fn key() -> WebPushKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()));
        WebPushKey::from_pem(&pem.into(), "mailto:ops@example.org".into()).unwrap()
    }

    #[test]
    fn what_the_rfc_has_encrypted_is_read_and_so_is_what_we_encrypt() {
        let read = |body: Vec<u8>| web_push_native::decrypt(body, &receiver(), &auth(AUTH).unwrap()).unwrap();
        let of_rfc = BASE64_URL_SAFE_NO_PAD.decode(BODY_OF_THE_RFC).unwrap();
        assert_eq!(read(of_rfc), b"When I grow up, I want to be a watermelon");
        let to = Subscription {
            endpoint: "https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV".into(),
            p256dh: RECEIVER_PUBLIC.into(),
            auth: format!("{AUTH}=="),
        };
        let (key, now) = (key(), DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let handling = Handling { ttl_seconds: 840, is_urgent: true, topic: "0192f5c46a3e7c119d2f2f0c5a8e4b17".into() };
        let (headers, body) = request(&key, &to, &handling, b"{}".to_vec(), now).unwrap();
        assert_eq!(read(body), b"{}");
        assert_eq!(
            (&headers["ttl"], &headers["urgency"]),
            (&HeaderValue::from(840), &HeaderValue::from_static("high"))
        );
        let authorization = headers["authorization"].to_str().unwrap();
        let (token, public) = authorization.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
        assert_eq!(public, key.public());
        let point = BASE64_URL_SAFE_NO_PAD.decode(public).unwrap();
        let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(&point[1..33]), BASE64_URL_SAFE_NO_PAD.encode(&point[33..]));
        let verifying = jsonwebtoken::DecodingKey::from_ec_components(&x, &y).unwrap();
        let mut rules = jsonwebtoken::Validation::new(Algorithm::ES256);
        rules.validate_exp = false;
        rules.set_audience(&["https://push.example.net"]);
        let claims = jsonwebtoken::decode::<Value>(token, &verifying, &rules).unwrap().claims;
        assert_eq!(
            (&claims["exp"], &claims["sub"]),
            (&(1_800_000_000 + 43_200).into(), &"mailto:ops@example.org".into())
        );
    }

    #[test]
    fn only_named_push_services_and_whole_keys_are_taken() {
        let hosts: WebPushHosts = "Push.example.net, *.notify.windows.com,127.0.0.1".parse().unwrap();
        let [plain, secure] = ["http://127.0.0.1", "127.0.0.1"].map(|rules| Egress::new(rules.parse().unwrap()));
        let faults_by = |egress: &Egress, endpoint: &str, p256dh: &str, auth: &str| {
            let to = Subscription { endpoint: endpoint.into(), p256dh: p256dh.into(), auth: auth.into() };
            let mut faults = Faults::default();
            to.check(egress, &hosts, &mut faults);
            faults.listed().iter().map(|fault| fault.pointer.clone()).collect::<Vec<_>>()
        };
        let faults = |endpoint: &str, p256dh: &str, auth: &str| faults_by(&plain, endpoint, p256dh, auth);
        let good = ["https://push.example.net/x", "https://a.b.notify.windows.com/x", "http://127.0.0.1:9/x"];
        for endpoint in good {
            assert!(faults(endpoint, RECEIVER_PUBLIC, AUTH).is_empty(), "{endpoint}");
        }
        for endpoint in [
            "https://notify.windows.com/x",
            "https://evilnotify.windows.com/x",
            "https://push.example.net.evil.example/x",
            "https://push.example.net@evil.example/x",
            "https://127.0.0.2/x",
            "",
        ] {
            assert_eq!(faults(endpoint, RECEIVER_PUBLIC, AUTH), ["/endpoint"], "{endpoint}");
        }
        // Of a name it is known when it is called whether it may be called by plain http; where nothing may, at once.
        for endpoint in ["http://push.example.net/x", "http://127.0.0.1:9/x"] {
            assert_eq!(faults_by(&secure, endpoint, RECEIVER_PUBLIC, AUTH), ["/endpoint"], "{endpoint}");
        }
        assert_eq!(faults(good[0], AUTH, RECEIVER_PUBLIC), ["/keys/p256dh", "/keys/auth"]);
        let no_point = format!("BA{}", "A".repeat(85));
        assert_eq!(faults(good[0], &no_point, "!"), ["/keys/p256dh", "/keys/auth"]);
        for bad in ["*", "a b", "*.*.example.org", "https://push.example.net"] {
            assert!(bad.parse::<WebPushHosts>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!("{:?}", key());
        assert!(printed.contains("public") && !printed.contains("key:"), "{printed}");
        assert!(WebPushKey::check_subject("mailto:a@example.org").is_ok());
        assert!(WebPushKey::check_subject("a@example.org").is_err());
        assert!(WebPushKey::check_public(RECEIVER_PUBLIC).is_ok());
        assert!(WebPushKey::check_public(AUTH).is_err());
    }
}
