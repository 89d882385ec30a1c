//! Verifies that a response is the service's own (RFC 9421; contract, "Signed responses").

use crate::error::off;
use aws_lc_rs::{digest, hmac};
use sfv::{BareItem, Dictionary, FieldType as _, InnerList, Item, List, ListEntry, Parser, StringRef};

/// The label of the service's signature.
const LABEL: &str = "relaytrace";
const TAG: &str = "relaytrace-response";
/// The components that a signature must cover where the request had a nonce.
const COMPONENTS: [&str; 5] =
    [r#""@status""#, r#""content-type""#, r#""content-digest""#, r#""@method";req"#, r#""relaytrace-nonce";req"#];
/// How far the two clocks may be apart, in seconds.
const LEEWAY: i64 = 30;
/// Longest life of a signature, in seconds.
const LIFETIME: i64 = 60;

/// Why a response does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A header is missing or cannot be read.
    #[error("the response has no usable {0}")]
    Header(&'static str),
    /// The body is not the one that was signed.
    #[error("the response's body is not that of its content-digest")]
    Body,
    /// Something else was signed than must be.
    #[error("the signature covers something else")]
    Components,
    /// A parameter of the signature is missing or another.
    #[error("the signature's {0} is missing or another")]
    Parameter(&'static str),
    /// The signature is right, and its time is not now: the two clocks differ by more than 30 s.
    #[error("this machine's clock is {}", off(*.age))]
    Stale {
        /// Seconds since the signature was made, by this machine's clock.
        age: i64,
    },
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

/// The request, and the key that must have signed the response.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's nonce.
    pub nonce: &'a str,
    /// The agent key that the request was made with.
    pub key_id: &'a str,
    /// Its response secret.
    pub secret: &'a hmac::Key,
    /// Seconds since the epoch.
    pub now: i64,
}

/// A response as it came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: &'a reqwest::header::HeaderMap,
    /// The exact body.
    pub body: &'a [u8],
}

impl Expected<'_> {
    /// Whether the response is the answer to this request.
    pub fn verify(&self, received: Received<'_>) -> Result<(), Unverified> {
        let content_digest = header(received, "content-digest")?;
        let dictionary: Dictionary = parsed(content_digest, "content-digest")?;
        let body_digest = digest::digest(&digest::SHA256, received.body);
        match dictionary.get("sha-256") {
            Some(ListEntry::Item(Item { bare_item: BareItem::ByteSequence(bytes), .. }))
                if bytes == body_digest.as_ref() => {}
            _ => return Err(Unverified::Body),
        }

        let inputs: Dictionary = parsed(header(received, "signature-input")?, "signature-input")?;
        let Some(ListEntry::InnerList(input)) = inputs.get(LABEL) else {
            return Err(Unverified::Header("signature-input"));
        };
        let (created, expires) = self.check_parameters(input)?;
        let base = self.signature_base(input, received)?;
        let signatures: Dictionary = parsed(header(received, "signature")?, "signature")?;
        let Some(ListEntry::Item(Item { bare_item: BareItem::ByteSequence(signature), .. })) = signatures.get(LABEL)
        else {
            return Err(Unverified::Header("signature"));
        };
        hmac::verify(self.secret, base.as_bytes(), signature).map_err(|_| Unverified::Signature)?;
        // Last: what a genuine signature over a fresh nonce says of the time is the service's clock.
        let is_current = created <= self.now + LEEWAY && self.now <= expires + LEEWAY;
        if is_current { Ok(()) } else { Err(Unverified::Stale { age: self.now - created }) }
    }

    /// When the signature was made and until when it holds.
    fn check_parameters(&self, input: &InnerList) -> Result<(i64, i64), Unverified> {
        let text = |name: &str| input.params.get(name).and_then(BareItem::as_string).map(StringRef::as_str);
        let time = |name: &str| input.params.get(name).and_then(BareItem::as_integer).map(i64::from);
        if text("alg") != Some("hmac-sha256") {
            return Err(Unverified::Parameter("alg"));
        }
        if text("tag") != Some(TAG) {
            return Err(Unverified::Parameter("tag"));
        }
        if text("keyid") != Some(self.key_id) {
            return Err(Unverified::Parameter("keyid"));
        }
        let created = time("created").ok_or(Unverified::Parameter("created"))?;
        let expires = time("expires").ok_or(Unverified::Parameter("expires"))?;
        if expires < created || expires - created > LIFETIME {
            return Err(Unverified::Parameter("expires"));
        }
        Ok((created, expires))
    }

    /// RFC 9421, section 2.5; the parameters in the order in which they came.
    fn signature_base(&self, input: &InnerList, received: Received<'_>) -> Result<String, Unverified> {
        let mut base = String::new();
        let covered: Vec<_> = input.items.iter().map(Item::serialize).collect();
        if covered.len() != COMPONENTS.len() || COMPONENTS.iter().any(|needed| !covered.iter().any(|c| c == needed)) {
            return Err(Unverified::Components);
        }
        for component in &covered {
            let value = match component.as_str() {
                r#""@status""# => received.status.to_string(),
                r#""@method";req"# => self.method.to_owned(),
                r#""relaytrace-nonce";req"# => self.nonce.to_owned(),
                r#""content-type""# => header(received, "content-type")?.to_owned(),
                _ => header(received, "content-digest")?.to_owned(),
            };
            base += &[component, ": ", &value, "\n"].concat();
        }
        let list: List = vec![ListEntry::InnerList(input.clone())];
        let params = list.serialize().ok_or(Unverified::Components)?;
        Ok(base + "\"@signature-params\": " + &params)
    }
}

/// The one value of a header.
fn header<'a>(received: Received<'a>, name: &'static str) -> Result<&'a str, Unverified> {
    let mut values = received.headers.get_all(name).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(value), None) => Ok(value.trim()),
        _ => Err(Unverified::Header(name)),
    }
}

fn parsed(text: &str, name: &'static str) -> Result<Dictionary, Unverified> {
    Parser::new(text).parse().map_err(|_| Unverified::Header(name))
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use reqwest::header::{HeaderMap, HeaderValue};
    use serde_json::Value;

    use super::*;

    /// A request and its response, out of the fixed vectors.
    struct Exchange {
        method: String,
        nonce: String,
        key_id: String,
        secret: hmac::Key,
        now: i64,
        status: u16,
        headers: HeaderMap,
        body: Vec<u8>,
    }

    impl Exchange {
        fn all() -> Vec<Self> {
            let text = include_str!("../../../contract/vectors/response-signatures.json");
            let vectors: Vec<Value> = serde_json::from_str(text).unwrap();
            vectors.iter().filter_map(Self::of).collect()
        }

        fn of(vector: &Value) -> Option<Self> {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let nonce = vector["request"]["headers"]["relaytrace-nonce"].as_str()?.to_owned();
            let mut headers = HeaderMap::new();
            headers.insert("content-type", text(&vector["response"]["content_type"]).parse().unwrap());
            for name in ["content-digest", "signature-input", "signature"] {
                headers.insert(name, text(&vector["expected"][name]).parse().unwrap());
            }
            let input = text(&vector["expected"]["signature-input"]);
            let created = input.split("created=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
            let secret = BASE64_STANDARD.decode(text(&vector["secret_base64"])).unwrap();
            Some(Self {
                method: text(&vector["request"]["method"]),
                nonce,
                key_id: text(&vector["key_id"]),
                secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
                now: created,
                status: u16::try_from(vector["response"]["status"].as_u64().unwrap()).unwrap(),
                headers,
                body: text(&vector["response"]["body"]).into_bytes(),
            })
        }

        fn verify(&self) -> Result<(), Unverified> {
            let Self { method, nonce, key_id, secret, now, .. } = self;
            let expected = Expected { method, nonce, key_id, secret, now: *now };
            expected.verify(Received { status: self.status, headers: &self.headers, body: &self.body })
        }

        fn set(&mut self, name: &'static str, change: impl Fn(&str) -> String) {
            let changed = change(self.headers[name].to_str().unwrap());
            self.headers.insert(name, HeaderValue::from_str(&changed).unwrap());
        }
    }

    #[test]
    fn the_fixed_vectors_verify() {
        let all = Exchange::all();
        assert!(!all.is_empty());
        for exchange in all {
            assert_eq!(exchange.verify(), Ok(()));
        }
    }

    #[test]
    fn whatever_is_changed_does_not() {
        type Change = (&'static str, fn(&mut Exchange), Unverified);
        let changes: [Change; 13] = [
            ("the body", |x| x.body[0] ^= 1, Unverified::Body),
            ("the status", |x| x.status += 1, Unverified::Signature),
            ("the method", |x| x.method = "DELETE".into(), Unverified::Signature),
            ("the nonce", |x| x.nonce.push('x'), Unverified::Signature),
            ("the secret", |x| x.secret = hmac::Key::new(hmac::HMAC_SHA256, b"another"), Unverified::Signature),
            ("the key", |x| x.key_id.push('x'), Unverified::Parameter("keyid")),
            ("the type", |x| x.set("content-type", |_| "text/html".into()), Unverified::Signature),
            ("its age", |x| x.now += 91, Unverified::Stale { age: 91 }),
            ("its future", |x| x.now -= 31, Unverified::Stale { age: -31 }),
            (
                "what is covered",
                |x| x.set("signature-input", |input| input.replacen(r#" "relaytrace-nonce";req"#, "", 1)),
                Unverified::Components,
            ),
            (
                "the tag",
                |x| x.set("signature-input", |input| input.replace("relaytrace-response", "another")),
                Unverified::Parameter("tag"),
            ),
            ("the digest", |x| drop(x.headers.remove("content-digest")), Unverified::Header("content-digest")),
            ("the signature", |x| drop(x.headers.remove("signature")), Unverified::Header("signature")),
        ];
        for (what, change, expected) in changes {
            for mut exchange in Exchange::all() {
                change(&mut exchange);
                assert_eq!(exchange.verify(), Err(expected.clone()), "{what}");
            }
        }
    }

    #[test]
    fn a_second_value_of_a_header_is_not_looked_past() {
        for mut exchange in Exchange::all() {
            let signature = exchange.headers["signature"].clone();
            exchange.headers.append("signature", signature);
            assert_eq!(exchange.verify(), Err(Unverified::Header("signature")));
        }
    }
}
