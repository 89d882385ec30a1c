//! Verifies that a response is the service's own (RFC 9421, as the contract narrows it).

use anyhow::{Context, Result, ensure};
use aws_lc_rs::{digest, hmac};
use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::Method;

use crate::http::Answer;

/// What a response to a request with a nonce must cover.
const COMPONENTS: &str = r#"("@status" "content-type" "content-digest" "@method";req "relaytrace-nonce";req)"#;

/// What the request said, and whose response it is.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub method: &'a Method,
    pub nonce: &'a str,
    pub key_id: &'a str,
    pub secret: &'a hmac::Key,
}

/// Checks the digest of the body and the signature over it.
pub fn verify(answer: &Answer, expected: Expected<'_>) -> Result<()> {
    let Expected { method, nonce, key_id, secret } = expected;
    let header = |name: &str| {
        let value = answer.headers.get(name).and_then(|value| value.to_str().ok());
        value.with_context(|| format!("a response to an agent has no {name}"))
    };
    let content_digest = header("content-digest")?;
    let body_digest = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, &answer.body));
    ensure!(content_digest == format!("sha-256=:{body_digest}:"), "a response's content-digest is not its body's");

    let params = header("signature-input")?.strip_prefix("relaytrace=").context("an unknown label of a signature")?;
    let attributes = params.strip_prefix(COMPONENTS).context("a signature covers something else")?;
    for needed in
        [format!(r#"keyid="{key_id}""#), r#"alg="hmac-sha256""#.to_owned(), r#"tag="relaytrace-response""#.to_owned()]
    {
        ensure!(attributes.split(';').any(|attribute| attribute == needed), "a signature lacks {needed}");
    }
    let base = format!(
        "\"@status\": {}\n\"content-type\": {}\n\"content-digest\": {content_digest}\n\"@method\";req: {method}\n\
         \"relaytrace-nonce\";req: {nonce}\n\"@signature-params\": {params}",
        answer.status.as_u16(),
        header("content-type")?,
    );
    let signature = header("signature")?.strip_prefix("relaytrace=:").and_then(|text| text.strip_suffix(':'));
    let signature = BASE64_STANDARD.decode(signature.context("a signature is no byte sequence")?)?;
    hmac::verify(secret, base.as_bytes(), &signature).ok().context("a response's signature is wrong")
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode};
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_fixed_vectors_verify_and_nothing_else_does() {
        let vectors: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/vectors/response-signatures.json")).unwrap();
        let mut verified = 0;
        for vector in vectors {
            let (request, response, headers) = (&vector["request"], &vector["response"], &vector["expected"]);
            let Some(nonce) = request["headers"]["relaytrace-nonce"].as_str() else { continue };
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let mut answer = Answer {
                status: StatusCode::from_u16(u16::try_from(response["status"].as_u64().unwrap()).unwrap()).unwrap(),
                headers: HeaderMap::new(),
                body: text(&response["body"]).into(),
            };
            answer.headers.insert("content-type", text(&response["content_type"]).parse().unwrap());
            for name in ["content-digest", "signature-input", "signature"] {
                answer.headers.insert(name, text(&headers[name]).parse().unwrap());
            }
            let secret = BASE64_STANDARD.decode(text(&vector["secret_base64"])).unwrap();
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            let method = text(&request["method"]).parse().unwrap();
            let key_id = text(&vector["key_id"]);
            let expected = Expected { method: &method, nonce, key_id: &key_id, secret: &secret };
            verify(&answer, expected).unwrap();
            assert!(verify(&answer, Expected { nonce: "another-nonce-of-mine", ..expected }).is_err());
            answer.body = "{}".into();
            assert!(verify(&answer, expected).is_err());
            verified += 1;
        }
        assert!(verified > 0);
    }
}
