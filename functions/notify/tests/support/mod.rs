//! An application whose events go out, and a receiver that writes down what it is told.

#![allow(dead_code, reason = "each test file uses its own part of it")]
#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic as their tests may")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use relaytrace_domain::RequestId;
use relaytrace_reach::{ChannelKeys, Reach, ReachConfig, WebPushKey};
use relaytrace_service::auth::BearerMaster;
use relaytrace_service::http::service;
use relaytrace_testing::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub id: String,
    pub signatures: String,
    pub body: Value,
    /// What it was answered with.
    pub status: StatusCode,
}

/// How a receiver answers: by the path, and by how many came before.
type Answering = fn(&str, usize) -> StatusCode;

#[derive(Clone)]
pub struct Receiver {
    pub address: String,
    received: Arc<Mutex<Vec<Received>>>,
    answering: Answering,
}

impl Receiver {
    pub async fn start(answering: Answering) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let receiver = Self { address, received: Arc::default(), answering };
        let router = Router::new().route("/{*path}", post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// How often each message was taken.
    pub fn taken(&self) -> HashMap<String, usize> {
        let mut taken = HashMap::new();
        for received in self.received().into_iter().filter(|received| received.status.is_success()) {
            *taken.entry(received.id).or_default() += 1;
        }
        taken
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut received = receiver.received.lock().unwrap();
    let status = (receiver.answering)(&path, received.len());
    let (id, signatures) = (header("webhook-id"), header("webhook-signature"));
    let challenge = body["data"]["challenge"].as_str().or(body["challenge"].as_str()).map(str::to_owned);
    received.push(Received { path, id, signatures, body, status });
    (status, challenge.map_or_else(String::new, |challenge| json!({"challenge": challenge}).to_string()))
}

/// The key that browsers subscribe with, and its public half.
pub fn web_push_key() -> Arc<WebPushKey> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()));
    Arc::new(WebPushKey::from_pem(&pem.into(), "mailto:ops@example.org".into()).unwrap())
}

/// All functions that matter here, with secrets of channels, without NATS.
pub fn app(owner: &PgPool) -> TestApp {
    let routes = || {
        let routes = notify::router().merge(admin::router()).merge(ingest::router());
        routes.merge(decide::router()).merge(bridge::router())
    };
    let mut app = TestApp::new(owner, routes());
    let keys = ChannelKeys::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    let web_push_key = web_push_key();
    app.state.bearer_master = Some(Arc::new(BearerMaster::new(vec![7; 32].into())));
    app.state.reach = Arc::new(Reach::new(ReachConfig {
        egress: "http://127.0.0.1".parse().unwrap(),
        keys: Some(keys),
        smtp: None,
        page_url: Some("https://page.example/".parse().unwrap()),
        web_push_hosts: "127.0.0.1".parse().unwrap(),
        web_push_public: Some(web_push_key.public().to_owned()),
        web_push_key: Some(web_push_key),
    }));
    app.router = service(routes(), app.state.clone());
    app
}

/// A token of an administrator.
pub fn admin_of(app: &TestApp) -> String {
    app.person("root", &["admin"])
}

/// Sets a webhook channel.
pub async fn webhook(app: &TestApp, name: &str, url: &str, more: &Value) {
    let mut body = json!({
        "kind": "webhook", "config": {"url": url, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
        "events": ["requested"],
    });
    for (member, value) in more.as_object().unwrap() {
        body[member] = value.clone();
    }
    let answer = app.call("PUT", &format!("/v1/admin/channels/{name}"), &admin_of(app), &body).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
}

/// The stream has taken every event of the outbox.
pub async fn publish_all(app: &TestApp) {
    let rows: Vec<(uuid::Uuid, i32)> =
        sqlx::query_as("SELECT request_id, seq FROM outbox").fetch_all(&app.owner).await.unwrap();
    let events: Vec<_> = rows.into_iter().map(|(id, seq)| (RequestId(id), seq)).collect();
    app.state.store.forget_events(&events).await.unwrap();
}

/// How many rows a table has.
pub async fn rows(app: &TestApp, table: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
        .fetch_one(&app.owner)
        .await
        .unwrap()
}

/// Tells what is due, and moves the clock past every pause, until nothing is left.
pub async fn tell_all(app: &TestApp) {
    for _ in 0..200 {
        notify::run_once(app.state.clone()).await.unwrap();
        if rows(app, "notifications").await + rows(app, "events_to_tell").await == 0 {
            return;
        }
        app.advance(301.0);
    }
    panic!("something is never told");
}
