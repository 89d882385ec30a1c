//! RFC 9421 signatures of responses over their exact bytes (contract, "Signed responses").

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine};

use crate::Digest;

/// What the signature is called (RFC 9421, section 4).
const LABEL: &str = "relaytrace";

/// What a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct SignedResponse<'a> {
    /// HTTP status.
    pub status: u16,
    /// The header `content-type`.
    pub content_type: &'a str,
    /// The exact body.
    pub body: &'a [u8],
    /// The request's method.
    pub method: &'a str,
    /// The request's `relaytrace-nonce`, if it sent one.
    pub request_nonce: Option<&'a str>,
    /// Seconds since the epoch.
    pub created: i64,
    /// Our own fresh nonce.
    pub nonce: &'a str,
}

/// The headers of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseSignature {
    /// `content-digest` (RFC 9530).
    pub content_digest: String,
    /// `signature-input`.
    pub signature_input: String,
    /// `signature`.
    pub signature: String,
}

impl SignedResponse<'_> {
    /// How long a signature is good for, in seconds.
    const LIFETIME: i64 = 60;

    /// Signs (RFC 9421, section 3.1). Key ids and nonces hold no character that a structured field would escape.
    #[must_use]
    pub fn sign(&self, key_id: &str, key: &hmac::Key) -> ResponseSignature {
        let Self { status, content_type, method, created, nonce, .. } = self;
        let content_digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(Digest::of(self.body).0));
        let expires = created + Self::LIFETIME;
        let (component, line) = match self.request_nonce {
            Some(nonce) => (" \"relaytrace-nonce\";req", format!("\"relaytrace-nonce\";req: {nonce}\n")),
            None => ("", String::new()),
        };
        let signature_input = format!(
            "{LABEL}=(\"@status\" \"content-type\" \"content-digest\" \"@method\";req{component});created={created};\
             keyid=\"{key_id}\";alg=\"hmac-sha256\";expires={expires};nonce=\"{nonce}\";tag=\"relaytrace-response\""
        );
        let params = &signature_input[LABEL.len() + 1..];
        let base = format!(
            "\"@status\": {status}\n\"content-type\": {content_type}\n\"content-digest\": {content_digest}\n\
             \"@method\";req: {method}\n{line}\"@signature-params\": {params}"
        );
        let signature = BASE64_STANDARD.encode(hmac::sign(key, base.as_bytes()));
        ResponseSignature { content_digest, signature_input, signature: format!("{LABEL}=:{signature}:") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_match_the_fixed_vectors() {
        let vectors: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../../contract/vectors/response-signatures.json")).unwrap();
        assert_eq!(vectors.len(), 3);
        for vector in vectors {
            let (request, response, expected) = (&vector["request"], &vector["response"], &vector["expected"]);
            let secret = BASE64_STANDARD.decode(vector["secret_base64"].as_str().unwrap()).unwrap();
            let signed = SignedResponse {
                status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
                content_type: response["content_type"].as_str().unwrap(),
                body: response["body"].as_str().unwrap().as_bytes(),
                method: request["method"].as_str().unwrap(),
                request_nonce: request["headers"]["relaytrace-nonce"].as_str(),
                created: vector["created"].as_i64().unwrap(),
                nonce: vector["nonce"].as_str().unwrap(),
            }
            .sign(vector["key_id"].as_str().unwrap(), &hmac::Key::new(hmac::HMAC_SHA256, &secret));
            assert_eq!(signed.content_digest, expected["content-digest"].as_str().unwrap());
            assert_eq!(signed.signature_input, expected["signature-input"].as_str().unwrap());
            assert_eq!(signed.signature, expected["signature"].as_str().unwrap());
        }
    }
}
