//! What texts mean, and what is wrong with them.

use base64::prelude::{BASE64_STANDARD, Engine};
use http::HeaderValue;
use jsonwebtoken::jwk::JwkSet;
use secrecy::SecretSlice;
use url::Url;

use crate::auth::{IssuerKeys, MasterSecrets};

/// Bytes of a secret that others are derived from.
pub(super) const SHORTEST_SECRET: usize = 32;

/// A text that others are compared with.
pub(super) fn one_line(text: &str) -> Result<String, &'static str> {
    if text.chars().any(char::is_control) { Err("has a control character in it") } else { Ok(text.to_owned()) }
}

pub(super) fn https(text: &str) -> Result<Url, &'static str> {
    match Url::parse(text) {
        // A URL is read without the line breaks in it; what tokens are compared with has them still.
        Ok(url) if url.scheme() == "https" && one_line(text).is_ok() => Ok(url),
        _ => Err("must be an https URL"),
    }
}

/// Where the page is, without anything after its path; plain http only on this machine.
pub(super) fn page_url(text: &str) -> Result<Url, &'static str> {
    const RULE: &str = "must be an https URL without query and fragment";
    let url = Url::parse(text).map_err(|_| RULE)?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if is_safe(&url) && is_plain && one_line(text).is_ok() { Ok(url) } else { Err(RULE) }
}

/// Where spans go: named by the environment, so also by plain http.
pub(super) fn collector(text: &str) -> Result<String, &'static str> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && one_line(text).is_ok() => Ok(text.to_owned()),
        _ => Err("must be an http or https URL"),
    }
}

/// https, or plain http on this machine.
fn is_safe(url: &Url) -> bool {
    url.scheme() == "https"
        || url.scheme() == "http" && matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"))
}

/// An origin as a browser writes it (RFC 6454, section 6.2); plain http only on this machine.
pub(super) fn origin(text: &str) -> Result<HeaderValue, &'static str> {
    const RULE: &str =
        "must be origins such as https://page.example.org, comma-separated, nothing after the host and port";
    let text = text.trim();
    let url = Url::parse(text).map_err(|_| RULE)?;
    if !is_safe(&url) || text.contains('*') || url.origin().ascii_serialization() != text {
        return Err(RULE);
    }
    HeaderValue::from_str(text).map_err(|_| RULE)
}

pub(super) fn issuer_keys(text: &str) -> Result<IssuerKeys, &'static str> {
    match IssuerKeys::parse(text.as_bytes()) {
        Ok(keys) if keys.is_empty() => Err("has no key that verifies signatures"),
        Ok(keys) => Ok(keys),
        Err(_) => Err("is not a JWK set"),
    }
}

pub(super) fn pointer(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("must be a JSON pointer such as /roles") }
}

pub(super) fn jwk_set(text: &str) -> Result<JwkSet, &'static str> {
    serde_json::from_str(text).map_err(|_| "is not a JWK set")
}

pub(super) fn master_secrets(text: &str) -> Result<MasterSecrets, &'static str> {
    let mut secrets = Vec::new();
    for part in text.split(',') {
        let (id, secret) = part.trim().split_once(':').ok_or("must be id:base64, comma-separated")?;
        let secret = BASE64_STANDARD.decode(secret).map_err(|_| "holds a secret that is not base64")?;
        if id.is_empty() || secret.len() < SHORTEST_SECRET {
            return Err("holds a secret without id or of less than 32 bytes");
        }
        secrets.push((id.to_owned(), SecretSlice::from(secret)));
    }
    let mut secrets = secrets.into_iter();
    let current = secrets.next().ok_or("holds no secret")?;
    Ok(MasterSecrets::new(current, secrets))
}
