//! Browsers of operators: told what their owners may decide, and nothing else.

mod support;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;
use support::{admin_of, app, publish_all, rows, tell_all};
use web_push_native::p256;

/// Path, headers and body of a message.
type Received = (String, HeaderMap, Vec<u8>);

/// A push service that writes down what comes.
#[derive(Clone)]
struct PushService {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl PushService {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let service = Self { address, received: Arc::default() };
        let router = Router::new().route("/{path}", post(take)).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("a server") });
        service
    }

    /// What each of these browsers was told.
    fn told(&self, browsers: &[&Browser]) -> Vec<(String, HeaderMap, Value)> {
        let received = self.received.lock().expect("no panic");
        let read = |(path, headers, body): &(String, HeaderMap, Vec<u8>)| {
            let browser = browsers.iter().find(|browser| browser.name == *path)?;
            Some((path.clone(), headers.clone(), browser.read(body)))
        };
        received.iter().filter_map(read).collect()
    }

    /// Names of the browsers that were told, each time once.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.received.lock().expect("no panic").iter().map(|(path, ..)| path.clone()).collect();
        names.sort();
        names
    }
}

async fn take(
    State(service): State<PushService>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let status = match path.as_str() {
        "gone" => StatusCode::GONE,
        "lost" => StatusCode::NOT_FOUND,
        _ => StatusCode::CREATED,
    };
    service.received.lock().expect("no panic").push((path, headers, body.to_vec()));
    status
}

struct Browser {
    name: &'static str,
    secret: p256::SecretKey,
}

impl Browser {
    fn new(name: &'static str) -> Self {
        let mut bytes = [1; 32];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Self { name, secret: p256::SecretKey::from_slice(&bytes).expect("a key") }
    }

    /// As the browser says itself.
    fn subscription(&self, service: &PushService, more: &Value) -> Value {
        use p256::elliptic_curve::sec1::ToEncodedPoint as _;
        let point = self.secret.public_key().to_encoded_point(false);
        let mut said = json!({
            "endpoint": format!("{}/{}", service.address, self.name), "expirationTime": null,
            "keys": {
                "p256dh": BASE64_URL_SAFE_NO_PAD.encode(point.as_bytes()), "auth": BASE64_URL_SAFE_NO_PAD.encode([7; 16]),
            },
        });
        for (member, value) in more.as_object().expect("an object") {
            said[member] = value.clone();
        }
        said
    }

    fn read(&self, body: &[u8]) -> Value {
        let plain = web_push_native::decrypt(body.to_vec(), &self.secret, &web_push_native::Auth::from([7; 16]))
            .expect("a message for this browser");
        serde_json::from_slice(&plain).expect("JSON")
    }
}

fn person(app: &TestApp, id: &str, groups: &[&str]) -> String {
    app.person_with(&json!({"sub": id, "name": id, "roles": ["operator"], "groups": groups}))
}

async fn put(app: &TestApp, token: &str, id: &str, body: &Value) -> Answer {
    app.call("PUT", &format!("/v1/hitl/push-subscriptions/{id}"), token, body).await
}

async fn subscribe(app: &TestApp, token: &str, id: &str, body: &Value) {
    let answer = put(app, token, id, body).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
}

async fn assign(app: &TestApp, request_id: &str, groups: &[&str]) {
    let assign = "UPDATE hitl_requests SET assigned_groups = $2 WHERE request_id = $1::uuid";
    sqlx::query(assign).bind(request_id).bind(groups).execute(&app.owner).await.expect("a request");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_browser_is_told_what_its_owner_may_decide_and_never_arguments(owner: PgPool) {
    let (app, service) = (app(&owner), PushService::start().await);
    let (agent, maria, jonas) =
        (app.agent("billing").await, person(&app, "maria", &["finance"]), person(&app, "jonas", &["ops"]));
    let (phone, desk) = (Browser::new("phone"), Browser::new("desk"));
    subscribe(&app, &maria, "phone", &phone.subscription(&service, &json!({}))).await;
    subscribe(&app, &jonas, "desk", &desk.subscription(&service, &json!({}))).await;
    // Of everybody, then of one group.
    let first = app.submit(&agent, "one").await;
    publish_all(&app).await;
    tell_all(&app).await;
    let second = app.submit(&agent, "two").await;
    assign(&app, &second, &["finance"]).await;
    publish_all(&app).await;
    tell_all(&app).await;

    let told = service.told(&[&phone, &desk]);
    let mut whom: Vec<_> =
        told.iter().map(|(name, _, told)| (name.as_str(), told["request_id"].as_str().unwrap())).collect();
    whom.sort_unstable();
    let mut expected = [("desk", first.as_str()), ("phone", &first), ("phone", &second)];
    expected.sort_unstable();
    assert_eq!(whom, expected);
    let (_, headers, message) = told.iter().find(|(name, _, _)| name == "desk").unwrap();
    let members: Vec<_> = message.as_object().unwrap().keys().map(String::as_str).collect();
    let only = ["action_type", "agent_id", "id", "link", "notice", "priority", "request_id", "respond_by", "title"];
    assert_eq!(members, only);
    assert_eq!(
        (&message["title"], &message["priority"], &message["agent_id"], &message["action_type"]),
        (&json!("Refund 12.40 EUR"), &json!("P2"), &json!("billing"), &json!("refund.create"))
    );
    assert_eq!(message["link"], format!("https://page.example/?id={first}"));
    assert_eq!(
        (&headers["urgency"], &headers["content-encoding"]),
        (&"normal".parse().unwrap(), &"aes128gcm".parse().unwrap())
    );
    assert!(headers["authorization"].to_str().unwrap().starts_with("vapid t="));
    assert_eq!(headers["topic"].to_str().unwrap(), first.replace('-', ""));
    assert!(headers["ttl"].to_str().unwrap().parse::<u64>().unwrap() > 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_subscription_tells_of_its_groups_and_priorities_and_of_nothing_that_is_over(owner: PgPool) {
    let (app, service) = (app(&owner), PushService::start().await);
    let (agent, maria) = (app.agent("billing").await, person(&app, "maria", &["finance", "ops"]));
    for (name, more) in [
        ("urgent", json!({"priorities": ["P1"]})),
        ("normal", json!({"priorities": ["P2", "P3"]})),
        ("ops", json!({"groups": ["ops"]})),
        ("all", json!({"groups": null, "priorities": null})),
    ] {
        subscribe(&app, &maria, name, &Browser::new(name).subscription(&service, &more)).await;
    }
    let request_id = app.submit(&agent, "one").await;
    publish_all(&app).await;
    tell_all(&app).await;
    assert_eq!(service.names(), ["all", "normal"]);
    assign(&app, &request_id, &["ops"]).await;
    app.submit(&agent, "two").await;
    sqlx::query("UPDATE hitl_requests SET assigned_groups = '{ops}', priority = 1 WHERE client_request_key = 'two'")
        .execute(&owner)
        .await
        .unwrap();
    publish_all(&app).await;
    tell_all(&app).await;
    assert_eq!(service.names(), ["all", "all", "normal", "ops", "urgent"]);
    // Decided before it is told: nobody has to look.
    let third = app.submit(&agent, "three").await;
    let path = format!("/v1/hitl/requests/{third}/decision");
    assert_eq!(app.post(&path, &maria, &json!({"decision": "approve"})).await.status, 201);
    publish_all(&app).await;
    tell_all(&app).await;
    assert_eq!(service.names().len(), 5);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn it_ends_with_its_push_service_its_owners_block_and_after_14_days_unseen(owner: PgPool) {
    let (app, service) = (app(&owner), PushService::start().await);
    let agent = app.agent("billing").await;
    let tell = async |key: &str| {
        let before = service.names().len();
        app.submit(&agent, key).await;
        publish_all(&app).await;
        tell_all(&app).await;
        service.names().len() - before
    };
    let list = async |who: &str| {
        let listed = app.get("/v1/hitl/push-subscriptions", &person(&app, who, &[])).await.json();
        listed["items"].as_array().unwrap().len()
    };
    for name in ["gone", "lost"] {
        let body = Browser::new(name).subscription(&service, &json!({}));
        subscribe(&app, &person(&app, "maria", &[]), name, &body).await;
    }
    assert_eq!((tell("one").await, tell("two").await, list("maria").await), (2, 0, 0));

    for who in ["jonas", "aylin", "pedro"] {
        let body = Browser::new(who).subscription(&service, &json!({}));
        subscribe(&app, &person(&app, who, &[]), "phone", &body).await;
    }
    assert_eq!(tell("three").await, 3);
    let block = json!({"status": "blocked"});
    assert_eq!(app.call("PATCH", "/v1/admin/operators/jonas", &admin_of(&app), &block).await.status, 200);
    let log = app.get("/v1/admin/log?limit=200", &admin_of(&app)).await.json().to_string();
    assert!(log.contains(r#""push_subscriptions_ended":1"#), "{log}");
    assert_eq!(tell("four").await, 2);
    // Let in again, it stays off until it is turned on again.
    let admit = json!({"status": "active"});
    assert_eq!(app.call("PATCH", "/v1/admin/operators/jonas", &admin_of(&app), &admit).await.status, 200);
    assert_eq!(tell("five").await, 2);

    let path = "/v1/hitl/push-subscriptions/phone";
    for _ in 0..2 {
        assert_eq!(app.call("DELETE", path, &person(&app, "pedro", &[]), &json!({})).await.status, 204);
    }
    assert_eq!(app.call("DELETE", path, &person(&app, "nobody", &[]), &json!({})).await.status, 404);
    assert_eq!(tell("six").await, 1);
    app.advance(14.0 * 86_400.0 + 1.0);
    assert_eq!((tell("seven").await, list("aylin").await), (0, 0));
    // Seen again, it stays off.
    assert_eq!(tell("eight").await, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_browser_is_its_latest_owners_and_an_owner_has_some_at_the_most(owner: PgPool) {
    let (app, service) = (app(&owner), PushService::start().await);
    let (agent, maria, jonas) = (app.agent("billing").await, person(&app, "maria", &[]), person(&app, "jonas", &[]));
    let shared = Browser::new("shared").subscription(&service, &json!({}));
    subscribe(&app, &maria, "a", &shared).await;
    subscribe(&app, &maria, "b", &shared).await;
    subscribe(&app, &jonas, "a", &shared).await;
    app.submit(&agent, "one").await;
    publish_all(&app).await;
    tell_all(&app).await;
    assert_eq!(service.names(), ["shared"]);
    let listed = app.get("/v1/hitl/push-subscriptions", &maria).await.json();
    assert_eq!(listed["items"], json!([]));
    assert!(listed["public_key"].is_string() && listed["next_cursor"].is_null());

    let other = |name: &'static str| Browser::new(name).subscription(&service, &json!({}));
    let names = [
        "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7",
        "b8", "b9",
    ];
    for name in names {
        subscribe(&app, &maria, name, &other(name)).await;
    }
    assert_eq!(put(&app, &maria, "one-more", &other("c0")).await.status, 409);
    // One that is there is changed all the same.
    subscribe(&app, &maria, "a0", &other("c0")).await;
    assert_eq!(app.call("DELETE", "/v1/hitl/push-subscriptions/a1", &maria, &json!({})).await.status, 204);
    subscribe(&app, &maria, "one-more", &other("c1")).await;
    // No endless names either.
    for number in 0..200 {
        let path = format!("/v1/hitl/push-subscriptions/n{number}");
        app.call("DELETE", "/v1/hitl/push-subscriptions/one-more", &maria, &json!({})).await;
        if put(&app, &maria, &format!("n{number}"), &other("c1")).await.status == 409 {
            break;
        }
        app.call("DELETE", &path, &maria, &json!({})).await;
    }
    assert_eq!(rows(&app, "listeners WHERE operator_id = 'maria'").await, 200);
    app.advance(3.0 * 86_400.0);
    subscribe(&app, &person(&app, "maria", &[]), "later", &other("c1")).await;
    assert!(rows(&app, "listeners WHERE operator_id = 'maria'").await < 30);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_no_subscription_is_refused_at_its_place(owner: PgPool) {
    let (app, service) = (app(&owner), PushService::start().await);
    let maria = person(&app, "maria", &[]);
    for (change, pointer) in [
        (json!({"endpoint": "https://evil.example/x"}), "/endpoint"),
        (json!({"endpoint": "http://169.254.169.254/"}), "/endpoint"),
        (json!({"keys": {"p256dh": "AAAA", "auth": BASE64_URL_SAFE_NO_PAD.encode([7; 16])}}), "/keys/p256dh"),
        (json!({"groups": []}), "/groups"),
        (json!({"priorities": ["P4"]}), "/priorities/0"),
        (json!({"more": 1}), "/more"),
    ] {
        let answer = put(&app, &maria, "phone", &Browser::new("phone").subscription(&service, &change)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["errors"][0]["pointer"]),
            (422, &json!(pointer)),
            "{change}"
        );
    }
    assert_eq!(put(&app, &admin_of(&app), "phone", &json!({})).await.status, 403);
    assert_eq!(put(&app, &maria, "no%20name", &json!({})).await.status, 404);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_endpoint_is_one_persons_whatever_its_keys_and_however_it_is_written(owner: PgPool) {
    let (app, service) = (app(&owner), PushService::start().await);
    let agent = app.agent("billing").await;
    let (first, second) = (Browser::new("first"), Browser::new("second"));
    subscribe(&app, &person(&app, "maria", &[]), "phone", &first.subscription(&service, &json!({}))).await;
    // Another person, with other keys, and the same endpoint in other words.
    let shouted = format!("{}/./first#part", service.address.replace("http", "HTTP"));
    let shared = second.subscription(&service, &json!({"endpoint": shouted}));
    subscribe(&app, &person(&app, "jonas", &[]), "phone", &shared).await;
    app.submit(&agent, "one").await;
    publish_all(&app).await;
    tell_all(&app).await;
    assert_eq!(service.names(), ["first"]);
    assert_eq!(rows(&app, "listeners WHERE removed_at IS NULL AND operator_id = 'jonas'").await, 1);

    // Also where many turn it on at the same moment.
    let [a, b, c] = ["aylin", "pedro", "noor"].map(|id| person(&app, id, &[]));
    let put = |token| put(&app, token, "phone", &shared);
    let (a, b, c) = tokio::join!(put(&a), put(&b), put(&c));
    for answer in [a, b, c] {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
    }
    assert_eq!(rows(&app, "listeners WHERE removed_at IS NULL").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_takes_the_database_too_long_at_once_is_dealt_out_in_parts(owner: PgPool) {
    let (app, service) = (app(&owner), PushService::start().await);
    let agent = app.agent("billing").await;
    let maria = person(&app, "maria", &["finance"]);
    subscribe(&app, &maria, "phone", &Browser::new("phone").subscription(&service, &json!({}))).await;
    // Sixty questions of different people, each of which takes long to answer.
    for number in 0..60 {
        let request_id = app.submit(&agent, &format!("key-{number}")).await;
        assign(&app, &request_id, &["finance", &format!("group-{number}")]).await;
    }
    let slow = "CREATE OR REPLACE FUNCTION may_act_on(
            tenant text, assigned_groups text[], assigned_operators text[], person jsonb, at timestamptz
        ) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN true; END $$";
    sqlx::raw_sql(slow).execute(&owner).await.unwrap();
    publish_all(&app).await;
    tell_all(&app).await;
    assert_eq!(service.names().len(), 60);
}
