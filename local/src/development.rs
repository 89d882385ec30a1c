//! Parts of a development stack only: an issuer, people with tokens for 30 days, and keys on disk.
//!
//! Everything is random for each checkout and lives below `.local/`, readable by its owner only.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use relaytrace_domain::signing::attestation_jwk;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `iss` of the development issuer. It is a name only: its keys are given to the functions directly.
pub const ISSUER: &str = "https://development-issuer.relaytrace.invalid";
const ISSUER_KEY_ID: &str = "development";
/// The agent of `.local/dev.json`.
pub const AGENT_ID: &str = "local-agent";
/// A tenant beside the one that always exists, and its agent.
pub const OTHER_TENANT: &str = "acme";
pub const OTHER_AGENT_ID: &str = "acme-agent";
const OPERATORS: [&str; 10] = ["Maria", "Jonas", "Aylin", "Pedro", "Ines", "Tomas", "Noor", "Lea", "Amir", "Sofia"];

/// What ingest, decide, timeout-sweep, admin and bridge may decide for.
const DECIDERS: [&[&str]; 5] = [&["agent", "policy"], &["operator"], &["timeout"], &["admin"], &["agent", "policy"]];

/// An Ed25519 key as PKCS#8 PEM.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey(pub String);

impl PrivateKey {
    /// A new one.
    pub fn generate() -> anyhow::Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new())?;
        Ok(Self(pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8.as_ref()))))
    }

    fn public(&self) -> anyhow::Result<Vec<u8>> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pem::parse(&self.0)?.contents())?;
        Ok(pair.public_key().as_ref().to_vec())
    }

    /// The public half as SPKI PEM.
    pub fn public_pem(&self) -> anyhow::Result<String> {
        // RFC 8410, section 4: the fixed start of an Ed25519 SubjectPublicKeyInfo.
        const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        Ok(pem::encode(&pem::Pem::new("PUBLIC KEY", [PREFIX.as_slice(), &self.public()?].concat())))
    }

    fn jwk(&self, key_id: &str) -> anyhow::Result<Value> {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.public()?);
        Ok(json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key_id, "alg": "EdDSA"}))
    }

    fn sign(&self, key_id: &str, claims: &Value) -> anyhow::Result<String> {
        let header = Header { kid: Some(key_id.into()), ..Header::new(Algorithm::EdDSA) };
        Ok(jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_pem(self.0.as_bytes())?)?)
    }

    /// A token of an agent that signs with this key, good for 15 minutes.
    pub fn agent_token(&self, agent_id: &str, key_id: &str, now: i64) -> anyhow::Result<String> {
        let claims = json!({"iss": agent_id, "sub": agent_id, "aud": "relaytrace", "iat": now, "exp": now + 900});
        self.sign(key_id, &claims)
    }
}

/// The secrets of one checkout. They outlive a run, as the database does.
#[derive(Serialize, Deserialize)]
pub struct Secrets {
    master_secret: String,
    receipt_key: PrivateKey,
    /// Those of ingest, decide, timeout-sweep, admin and bridge, in this order. The last are missing in a file from before
    /// there were any.
    #[serde(default)]
    attestation_keys: Vec<PrivateKey>,
    issuer_key: PrivateKey,
    /// Of the agent of `.local/dev.json`.
    #[serde(flatten)]
    pub agent: AgentSecrets,
    /// Empty in a file from before there were bearer keys.
    #[serde(default)]
    bearer_master: String,
    /// Secrets of channels are encrypted with it; empty in a file from before there were any.
    #[serde(default)]
    channel_key: String,
    /// Messages to browsers are signed with it; absent in a file from before there were any.
    vapid_key: Option<VapidKey>,
    /// Of the other tenant's agent; absent in a file from before there was one.
    other_agent: Option<AgentSecrets>,
}

/// A P-256 key as PKCS#8 PEM, and its public half as browsers want it.
#[derive(Serialize, Deserialize)]
struct VapidKey {
    private: String,
    public: String,
}

impl VapidKey {
    fn generate() -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let private = pem::encode(&pem::Pem::new("PRIVATE KEY", pair.to_pkcs8v1()?.as_ref()));
        Ok(Self { private, public: BASE64_URL_SAFE_NO_PAD.encode(pair.public_key()) })
    }
}

/// The keys of one agent.
#[derive(Serialize, Deserialize)]
pub struct AgentSecrets {
    /// The key that signs its tokens.
    pub agent_key: PrivateKey,
    /// Its id.
    pub agent_key_id: String,
    /// Id of its bearer key; empty in a file from before there were any.
    #[serde(default)]
    pub bearer_key_id: String,
}

impl AgentSecrets {
    fn generate(name: &str) -> anyhow::Result<Self> {
        let (agent_key_id, bearer_key_id) = (new_key_id(name), new_key_id("bearer"));
        Ok(Self { agent_key: PrivateKey::generate()?, agent_key_id, bearer_key_id })
    }
}

impl Secrets {
    /// The checkout's secrets, made at the first run.
    pub fn load_or_make(path: &Path) -> anyhow::Result<Self> {
        if let Ok(text) = fs::read_to_string(path) {
            let mut secrets: Self =
                serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))?;
            if secrets.complete()? {
                write_private(path, &serde_json::to_string_pretty(&secrets)?)?;
            }
            return Ok(secrets);
        }
        let secrets = Self {
            master_secret: new_secret(),
            receipt_key: PrivateKey::generate()?,
            attestation_keys: Self::attestation_keys()?,
            issuer_key: PrivateKey::generate()?,
            agent: AgentSecrets::generate("local")?,
            bearer_master: new_secret(),
            channel_key: new_secret(),
            vapid_key: Some(VapidKey::generate()?),
            other_agent: Some(AgentSecrets::generate(OTHER_TENANT)?),
        };
        write_private(path, &serde_json::to_string_pretty(&secrets)?)?;
        Ok(secrets)
    }

    /// Adds what a file of an earlier version has not. Whether anything was missing.
    fn complete(&mut self) -> anyhow::Result<bool> {
        let before = serde_json::to_string(self)?;
        while self.attestation_keys.len() < DECIDERS.len() {
            self.attestation_keys.push(PrivateKey::generate()?);
        }
        if self.bearer_master.is_empty() {
            (self.bearer_master, self.agent.bearer_key_id) = (new_secret(), new_key_id("bearer"));
        }
        if self.channel_key.is_empty() {
            self.channel_key = new_secret();
        }
        if self.vapid_key.is_none() {
            self.vapid_key = Some(VapidKey::generate()?);
        }
        if self.other_agent.is_none() {
            self.other_agent = Some(AgentSecrets::generate(OTHER_TENANT)?);
        }
        Ok(serde_json::to_string(self)? != before)
    }

    /// The agents, each with its tenant.
    pub fn agents(&self) -> impl Iterator<Item = (&'static str, &'static str, &AgentSecrets)> {
        let other = self.other_agent.as_ref().map(|agent| (OTHER_TENANT, OTHER_AGENT_ID, agent));
        [("default", AGENT_ID, &self.agent)].into_iter().chain(other)
    }

    fn attestation_keys() -> anyhow::Result<Vec<PrivateKey>> {
        DECIDERS.iter().map(|_| PrivateKey::generate()).collect()
    }

    /// The public halves, each with the causes that its function may decide for.
    fn attestation_jwks(&self) -> anyhow::Result<Value> {
        let keys = self.attestation_keys.iter().zip(DECIDERS);
        let keys = keys.map(|(key, causes)| attestation_jwk(&key.0.clone().into(), causes).map_err(anyhow::Error::msg));
        Ok(json!({"keys": keys.collect::<anyhow::Result<Vec<_>>>()?}))
    }

    /// The functions' configuration.
    pub fn environment(&self, database_url: &str, nats_url: &str) -> anyhow::Result<HashMap<String, String>> {
        let jwks = json!({"keys": [self.issuer_key.jwk(ISSUER_KEY_ID)?]});
        // Bound to no tenant: its tokens name one.
        let issuers = json!([{"name": "development", "issuer": ISSUER, "jwks": jwks, "owners": true}]);
        let variables = [
            ("DATABASE_URL", database_url.to_owned()),
            ("NATS_URL", nats_url.to_owned()),
            ("DEPLOYMENT_NAME", "relaytrace-local".to_owned()),
            ("MASTER_SECRETS", format!("1:{}", self.master_secret)),
            ("BEARER_MASTER", self.bearer_master.clone()),
            ("CHANNEL_KEY", self.channel_key.clone()),
            ("RECEIPT_KEY", self.receipt_key.0.clone()),
            ("ATTESTATION_KEY", self.attestation_keys.iter().map(|key| key.0.as_str()).collect::<Vec<_>>().join("\n")),
            ("ATTESTATION_JWKS", self.attestation_jwks()?.to_string()),
            ("ISSUERS", issuers.to_string()),
            ("ALLOW_AUTO_APPROVE", "true".to_owned()),
            ("EGRESS_ALLOW", "http://127.0.0.1".to_owned()),
            ("BIND_ADDRESS", "127.0.0.1".to_owned()),
        ];
        let mut variables = HashMap::from(variables.map(|(name, value)| (name.to_owned(), value)));
        if let Some(VapidKey { private, public }) = &self.vapid_key {
            let of_browsers = [
                ("VAPID_PRIVATE_KEY", private.clone()),
                ("VAPID_PUBLIC_KEY", public.clone()),
                ("VAPID_SUBJECT", "mailto:nobody@relaytrace.invalid".to_owned()),
                ("WEB_PUSH_HOSTS", "127.0.0.1".to_owned()),
            ];
            variables.extend(of_browsers.map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(variables)
    }

    /// A person's token, good for 30 days.
    pub fn person(&self, person: &Person<'_>, now: i64) -> anyhow::Result<String> {
        let Person { id, name, role, groups, tenant } = person;
        let claims = json!({
            "iss": ISSUER, "sub": id, "name": name, "aud": "relaytrace", "roles": [role], "groups": groups,
            "tenant": tenant, "iat": now, "exp": now + 30 * 86_400,
        });
        self.issuer_key.sign(ISSUER_KEY_ID, &claims)
    }

    /// `{id, name, groups, tenant, token}`: fifty operators, of finance and ops by halves and five of them in both; then
    /// five of the other tenant.
    pub fn operators(&self, now: i64) -> anyhow::Result<Vec<Value>> {
        let of_default = (0..50).map(|number| {
            let groups: &[&str] = match number {
                0..20 => &["finance"],
                20..25 => &["finance", "ops"],
                _ => &["ops"],
            };
            (number, "default", groups)
        });
        let of_other = (0..5).map(|number| (number, OTHER_TENANT, &["ops"][..]));
        let described = of_default.chain(of_other).map(|(number, tenant, groups)| {
            let first = OPERATORS[number % OPERATORS.len()];
            let (id, name) = match number / OPERATORS.len() {
                _ if tenant == OTHER_TENANT => (format!("{tenant}-{}", first.to_lowercase()), format!("{first} A.")),
                0 => (first.to_lowercase(), format!("{first} K.")),
                round => (format!("{}-{}", first.to_lowercase(), round + 1), format!("{first} {}", round + 1)),
            };
            let token = self.person(&Person { id: &id, name: &name, role: "operator", groups, tenant }, now)?;
            Ok(json!({"id": id, "name": name, "groups": groups, "tenant": tenant, "token": token}))
        });
        described.collect()
    }
}

/// A person of the development issuer.
pub struct Person<'a> {
    /// The token's `sub`.
    pub id: &'a str,
    /// As people call them.
    pub name: &'a str,
    /// `operator`, `admin` or `owner`.
    pub role: &'a str,
    /// Whom they belong to.
    pub groups: &'a [&'a str],
    /// Their tenant.
    pub tenant: &'a str,
}

fn new_secret() -> String {
    BASE64_STANDARD.encode(rand::random::<[u8; 32]>())
}

fn new_key_id(of: &str) -> String {
    format!("{of}-{:08x}", rand::random::<u32>())
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let draft = path.with_extension("draft");
    let written = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    written().with_context(|| format!("{} cannot be written", path.display()))
}
