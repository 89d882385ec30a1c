//! For tests of every crate: an application over a test's own database, keys, tokens and a clock that stands still.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::Router;
use axum::body::Body;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tower::ServiceExt as _;

use relaytrace_domain::signing::{AttestationKeys, Attestor, ReceiptKey, ReceiptKeys, attestation_jwk};
use relaytrace_domain::{Clock, DeliveryRules, KeyRights};
use relaytrace_service::auth::{Issuer, IssuerKeys, KeyAlg, MasterSecrets, PublicKey, TokenRules};
use relaytrace_service::config::NatsConfig;
use relaytrace_service::events::{Events, Publishing};
use relaytrace_service::http::{Routes, service};
use relaytrace_service::state::AppState;
use relaytrace_store::{NewKey, ROLE_SETTINGS, Scope, Store};

/// The issuer of [`TestApp`]'s operators and administrators.
pub const ISSUER: &str = "https://issuer.test";

/// Where no NATS is.
pub const NO_NATS: &str = "nats://127.0.0.1:9";

/// A connection with the rights and settings of the functions' login role.
fn as_service(owner: &PgPool) -> PgConnectOptions {
    (*owner.connect_options()).clone().options([("role", "relaytrace_app")]).options(ROLE_SETTINGS)
}

/// An Ed25519 key pair.
pub struct TestKey {
    pkcs8: Vec<u8>,
    pair: Ed25519KeyPair,
}

impl TestKey {
    /// A new key pair.
    #[must_use]
    pub fn generate() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new()).expect("a key pair");
        let pkcs8 = pkcs8.as_ref().to_vec();
        Self { pair: Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).expect("a key pair"), pkcs8 }
    }

    /// The public half as SPKI PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        // RFC 8410, section 4: the fixed start of an Ed25519 SubjectPublicKeyInfo.
        const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let spki = [PREFIX.as_slice(), self.pair.public_key().as_ref()].concat();
        pem::encode(&pem::Pem::new("PUBLIC KEY", spki))
    }

    /// The private half as PKCS#8 PEM.
    #[must_use]
    pub fn private_pem(&self) -> String {
        pem::encode(&pem::Pem::new("PRIVATE KEY", self.pkcs8.clone()))
    }

    /// The public half as a JWK.
    #[must_use]
    pub fn jwk(&self, key_id: &str) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key_id, "alg": "EdDSA"})
    }

    /// A token signed by it.
    #[must_use]
    pub fn token(&self, key_id: &str, claims: &Value) -> String {
        let header = Header { kid: Some(key_id.into()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(&self.pkcs8)).expect("a token")
    }
}

/// A registered agent with one key.
pub struct TestAgent {
    /// The agent.
    pub agent_id: String,
    /// Its key's id.
    pub key_id: String,
    /// Its key.
    pub key: TestKey,
    clock: Clock,
}

impl TestAgent {
    /// Claims of a good token.
    #[must_use]
    pub fn claims(&self) -> Value {
        let now = self.clock.now().timestamp();
        json!({"iss": self.agent_id, "sub": self.agent_id, "aud": "relaytrace", "iat": now, "exp": now + 300})
    }

    /// A good token.
    #[must_use]
    pub fn token(&self) -> String {
        self.key.token(&self.key_id, &self.claims())
    }

    /// A valid envelope.
    #[must_use]
    pub fn envelope(&self, client_request_key: &str) -> Value {
        json!({
            "envelope_version": "1", "agent_id": self.agent_id, "client_request_key": client_request_key,
            "priority": "P2", "title": "Refund 12.40 EUR",
            "action": {"type": "refund.create", "arguments": {"amount": "12.40", "currency": "EUR"}},
            "resume": {"step": 3},
        })
    }
}

/// An answer, its body read.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("a JSON body")
    }

    /// The problem's code.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().expect("a problem document").to_owned()
    }
}

/// Routes over a test's own database, as the application's role.
pub struct TestApp {
    /// What the handlers share.
    pub state: AppState,
    /// The service.
    pub router: Router,
    /// The owner's connections.
    pub owner: PgPool,
    /// The time of the handlers and of their statements.
    pub clock: Clock,
    issuer_key: Arc<TestKey>,
}

impl TestApp {
    /// An application without NATS: its events stay in the outbox.
    #[must_use]
    pub fn new(owner: &PgPool, routes: Routes) -> Self {
        Self::with_nats(owner, routes, NO_NATS)
    }

    /// An application that publishes to this NATS.
    #[must_use]
    pub fn with_nats(owner: &PgPool, routes: Routes, nats_url: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests start at the real time and move on from there")]
        let clock = Clock::fixed(Utc::now());
        Self::build(owner, routes, nats_url, clock, Arc::new(TestKey::generate()), DeliveryRules::default())
    }

    /// An application without NATS that delivers by these rules.
    #[must_use]
    pub fn delivering(owner: &PgPool, routes: Routes, delivery: DeliveryRules) -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests start at the real time and move on from there")]
        let clock = Clock::fixed(Utc::now());
        Self::build(owner, routes, NO_NATS, clock, Arc::new(TestKey::generate()), delivery)
    }

    /// Another process of the same deployment: the same database, time and issuer.
    #[must_use]
    pub fn another_process(&self, routes: Routes, nats_url: &str) -> Self {
        Self::build(
            &self.owner,
            routes,
            nats_url,
            self.clock.clone(),
            self.issuer_key.clone(),
            self.state.store.rules().clone(),
        )
    }

    /// Blocks that one execution of a statement reads, by the service's own plan of it. `parameters` are SQL expressions.
    pub async fn blocks_read(&self, statement: &str, parameters: &[&str]) -> i64 {
        let mut connection = PgConnection::connect_with(&as_service(&self.owner)).await.expect("a connection");
        let prepared = AssertSqlSafe(format!("PREPARE measured AS {statement}"));
        sqlx::raw_sql(prepared).execute(&mut connection).await.expect("a statement");
        let executed = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE measured({})", parameters.join(", "));
        let plan: Value = sqlx::query_scalar(AssertSqlSafe(executed)).fetch_one(&mut connection).await.expect("a plan");
        let plan = &plan[0]["Plan"];
        ["Shared Hit Blocks", "Shared Read Blocks"].iter().map(|name| plan[name].as_i64().expect("a number")).sum()
    }

    fn build(
        owner: &PgPool,
        routes: Routes,
        nats_url: &str,
        clock: Clock,
        issuer_key: Arc<TestKey>,
        delivery: DeliveryRules,
    ) -> Self {
        let database = as_service(owner);
        let keys = json!({"keys": [issuer_key.jwk("issuer-key")]}).to_string();
        let keys = IssuerKeys::parse(keys.as_bytes()).expect("a JWK set");
        let rules = TokenRules { audience: "relaytrace".into(), max_lifetime_seconds: 900, leeway_seconds: 30 };
        let masters = MasterSecrets::new(("m1".into(), vec![1; 32].into()), []);
        let receipt_key = ReceiptKey::from_pem(&TestKey::generate().private_pem().into()).expect("a key");
        let (attestation_key, attestations) = attestation();
        let attestor = Attestor::from_pem(&attestation_key, &attestations).expect("a listed key");
        let nats = NatsConfig { url: nats_url.into(), credentials: None, replicas: 1 };
        let state = AppState::with_store(
            Store::connect_lazily(database, 40, clock.clone())
                .delivering(delivery)
                .attesting(Arc::new(attestor))
                .in_batches(),
            Events::new(nats, Publishing::Behind),
            Issuer::pinned(ISSUER.into(), keys),
            rules,
            Arc::new(masters),
            ReceiptKeys::new("test".into(), Some(receipt_key), [], attestations),
        );
        Self { router: service(routes, state.clone()), state, owner: owner.clone(), clock, issuer_key }
    }

    /// Moves the time by so many seconds.
    pub fn advance(&self, seconds: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "seconds of a test")]
        self.clock.set(self.clock.now() + TimeDelta::microseconds((seconds * 1e6) as i64));
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Registers an agent with one key.
    pub async fn agent(&self, agent_id: &str) -> TestAgent {
        let key = TestKey::generate();
        let key_id = format!("{agent_id}-key");
        let id = agent_id.parse().expect("an agent id");
        let public = PublicKey::from_pem(KeyAlg::EdDsa, &key.public_pem()).expect("a public key");
        let scope = Scope::of_program("test");
        let store = &self.state.store;
        store.register_agent(&scope, &id, agent_id).await.expect("registered");
        let (key_name, master) = (key_id.parse().expect("a key id"), self.state.master_secrets.current());
        store
            .register_key(
                &scope,
                &NewKey {
                    key_id: &key_name,
                    agent_id: &id,
                    alg: "EdDSA",
                    public_key: &public.spki,
                    master_id: master,
                    rights: &KeyRights::default(),
                    expires_at: None,
                },
            )
            .await
            .expect("registered");
        TestAgent { agent_id: agent_id.into(), key_id, key, clock: self.clock.clone() }
    }

    /// A token of a person with these roles.
    #[must_use]
    pub fn person(&self, id: &str, roles: &[&str]) -> String {
        self.person_with(&json!({"sub": id, "name": format!("{id} of the tests"), "roles": roles}))
    }

    /// A token of a person with these claims of their own, in time and for us.
    #[must_use]
    pub fn person_with(&self, claims: &Value) -> String {
        let now = self.clock.now().timestamp();
        let mut all = json!({"iss": ISSUER, "aud": "relaytrace", "iat": now, "exp": now + 30 * 86_400});
        for (name, value) in claims.as_object().expect("claims") {
            all[name] = value.clone();
        }
        self.issuer_key.token("issuer-key", &all)
    }

    /// A token of an operator.
    #[must_use]
    pub fn operator(&self, id: &str) -> String {
        self.person(id, &["operator"])
    }

    /// The response secret of an agent's key, standard base64.
    #[must_use]
    pub fn response_secret(&self, agent: &TestAgent) -> String {
        let (agent_id, key_id) = (agent.agent_id.parse().expect("an id"), agent.key_id.parse().expect("an id"));
        let masters = &self.state.master_secrets;
        BASE64_STANDARD.encode(masters.response_secret(masters.current(), &agent_id, &key_id).expect("a secret"))
    }

    /// Sends a request.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        send(self.router.clone(), request).await
    }

    /// A GET with a token.
    pub async fn get(&self, path: &str, token: &str) -> Answer {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        self.send(request.body(Body::empty()).expect("a request")).await
    }

    /// A POST of JSON with a token.
    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.call("POST", path, token, body).await
    }

    /// A call with a JSON body and a token.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        self.send(request(method, path, token, body)).await
    }

    /// Submits a valid envelope, which must be accepted, and gives the request's id.
    pub async fn submit(&self, agent: &TestAgent, client_request_key: &str) -> String {
        let answer = self.post("/v1/hitl/requests", &agent.token(), &agent.envelope(client_request_key)).await;
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.bytes));
        answer.json()["request_id"].as_str().expect("an id").to_owned()
    }
}

/// A POST of JSON with a token, to a router that outlives the caller's application.
pub async fn post(router: Router, path: &str, token: &str, body: &Value) -> Answer {
    send(router, request("POST", path, token, body)).await
}

fn request(method: &str, path: &str, token: &str, body: &Value) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("authorization", format!("Bearer {token}")).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).expect("a request")
}

async fn send(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, bytes }
}

/// The attestation key of a deployment whose functions are one process, and its public half.
///
/// The same in every process of the tests, so that one attests what another one gives receipts of.
fn attestation() -> (SecretString, AttestationKeys) {
    static KEY: LazyLock<String> = LazyLock::new(|| TestKey::generate().private_pem());
    let key = SecretString::from(KEY.as_str());
    let jwk = attestation_jwk(&key, &["operator", "timeout", "admin", "agent", "policy"]).expect("a key");
    (key, AttestationKeys::from_jwks(&json!({"keys": [jwk]})).expect("a list"))
}

/// Waits until this is so, asking again every few milliseconds.
///
/// # Panics
/// After 30 s.
pub async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("it did not come to be within 30 s");
}

/// Waits until at least so many statements in this database wait for a lock.
///
/// At least, not exactly: several callers may come to the lock between two looks.
pub async fn until_blocked(owner: &PgPool, statements: usize) {
    let wanted = i64::try_from(statements).expect("few");
    until(async || blocked(owner).await >= wanted).await;
}

/// Waits until no statement in this database waits for a lock.
pub async fn until_none_blocked(owner: &PgPool) {
    until(async || blocked(owner).await == 0).await;
}

async fn blocked(owner: &PgPool) -> i64 {
    let query = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    sqlx::query_scalar(query).fetch_one(owner).await.expect("a count")
}
