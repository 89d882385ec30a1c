//! Instances of the Agent Approval Protocol: made once, and their receivers woken by what their keys have asked.

mod support;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestAgent, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;
use support::{Receiver, admin_of, app, publish_all, rows, tell_all};

const OK: fn(&str, usize) -> StatusCode = |_, _| StatusCode::OK;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An agent whose key makes instances.
async fn provisioner(app: &TestApp, name: &str) -> TestAgent {
    let agent = app.agent(name).await;
    let scopes = "UPDATE agent_keys SET scopes = ARRAY['provision'] WHERE agent_id = $1";
    sqlx::query(scopes).bind(name).execute(&app.owner).await.expect("scopes");
    agent
}

fn delivery(url: &str) -> Value {
    json!({"type": "webhook", "url": url, "registration_id": "registration-1", "signing_secret": SECRET})
}

async fn keyed(app: &TestApp, path: &str, token: &str, key: &str, body: &Value) -> Answer {
    let request = Request::post(path).header("authorization", format!("Bearer {token}"));
    let request = request.header("content-type", "application/json").header("idempotency-key", key);
    app.send(request.body(Body::from(body.to_string())).expect("a request")).await
}

async fn provision(app: &TestApp, agent: &TestAgent, key: &str, body: &Value) -> Answer {
    keyed(app, "/aap/v1/instances", &agent.token(), key, body).await
}

/// Asks with a token, and has it rejected; the request's id.
async fn resolved(app: &TestApp, token: &str, key: &str) -> String {
    let body = json!({"tool": "Bash", "arguments": {"command": "ls"}, "timeout": "10m"});
    let asked = keyed(app, "/aap/v1/requests", token, key, &body).await;
    assert_eq!(asked.status, 201, "{}", String::from_utf8_lossy(&asked.bytes));
    let id = asked.json()["id"].as_str().expect("an id").to_owned();
    let decision = json!({"decision": "reject", "reason": "no"});
    let path = format!("/v1/hitl/requests/{id}/decision");
    assert_eq!(app.post(&path, &app.operator("maria"), &decision).await.status, 201);
    publish_all(app).await;
    id
}

fn failure(answer: &Answer) -> (u16, String) {
    let code = answer.json()["error"]["code"].as_str().expect("a code").to_owned();
    (answer.status.as_u16(), code)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_instance_is_made_once_and_its_receiver_is_told_of_its_own_requests(owner: PgPool) {
    let (app, receiver) = (app(&owner), Receiver::start(OK).await);
    let agent = provisioner(&app, "harness").await;
    let body = json!({"instance_name": "Laptop", "delivery": delivery(&format!("{}/aap", receiver.address))});
    let made = provision(&app, &agent, "one", &body).await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.bytes));
    let made = made.json();
    let (id, token) = (made["instance"]["id"].as_str().unwrap(), made["credential"]["token"].as_str().unwrap());
    assert_eq!((&made["instance"]["name"], made["credential"].as_object().unwrap().len()), (&json!("Laptop"), 1));
    let [asked] = &receiver.received()[..] else { panic!("{:?}", receiver.received()) };
    let members: Vec<_> = asked.body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["challenge", "created_at", "id", "instance_id", "registration_id", "type"]);
    assert_eq!((&asked.body["type"], &asked.body["id"]), (&json!("webhook.verification"), &json!(asked.id)));
    assert_eq!((&asked.body["registration_id"], &asked.body["instance_id"]), (&json!("registration-1"), &json!(id)));

    // The same again is the same, without another challenge; another body is refused.
    let again = provision(&app, &agent, "one", &body).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, made.clone()));
    let other = provision(&app, &agent, "one", &json!({"instance_name": "Other"})).await;
    assert_eq!(failure(&other), (409, "idempotency_conflict".into()));
    assert_eq!(receiver.received().len(), 1);

    let without = provision(&app, &agent, "two", &json!({})).await.json();
    assert_eq!(without["instance"]["name"], without["instance"]["id"]);
    resolved(&app, without["credential"]["token"].as_str().unwrap(), "of-another").await;
    let request_id = resolved(&app, token, "of-this-one").await;
    tell_all(&app).await;
    let [_, told] = &receiver.received()[..] else { panic!("{:?}", receiver.received()) };
    let at = told.body["created_at"].as_str().unwrap();
    let expected = json!({
        "id": told.id, "type": "request.resolved", "instance_id": id, "request_id": request_id, "created_at": at,
    });
    assert_eq!(told.body, expected);
    // Once it was used, its token is not told again.
    assert_eq!(provision(&app, &agent, "one", &body).await.status, 409);

    // A revoked key's receiver hears no more.
    resolved(&app, token, "before").await;
    let path = format!("/v1/admin/agents/harness/keys/{id}");
    assert_eq!(app.call("DELETE", &path, &admin_of(&app), &json!({})).await.status, 204);
    tell_all(&app).await;
    assert_eq!(receiver.received().len(), 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_receiver_that_is_gone_hears_no_more(owner: PgPool) {
    let answering: fn(&str, usize) -> StatusCode =
        |_, before| if before == 0 { StatusCode::OK } else { StatusCode::GONE };
    let (app, receiver) = (app(&owner), Receiver::start(answering).await);
    let agent = provisioner(&app, "harness").await;
    let body = json!({"delivery": delivery(&format!("{}/aap", receiver.address))});
    let made = provision(&app, &agent, "one", &body).await.json();
    let token = made["credential"]["token"].as_str().unwrap();
    resolved(&app, token, "one").await;
    tell_all(&app).await;
    resolved(&app, token, "two").await;
    tell_all(&app).await;
    assert_eq!((receiver.received().len(), rows(&app, "notifications").await), (2, 0));
    let log = app.get("/v1/admin/log?limit=200", &admin_of(&app)).await.json();
    assert!(log.to_string().contains("agent.push_ended") && !log.to_string().contains("whsec_"), "{log}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_receiver_that_does_not_answer_as_it_should_makes_no_instance(owner: PgPool) {
    let answering: fn(&str, usize) -> StatusCode = |path, _| match path {
        "good" => StatusCode::OK,
        _ => StatusCode::BAD_GATEWAY,
    };
    let (app, receiver) = (app(&owner), Receiver::start(answering).await);
    let agent = provisioner(&app, "harness").await;
    let at = |path: &str| json!({"delivery": delivery(&format!("{}/{path}", receiver.address))});
    for body in [
        at("bad"),
        json!({"delivery": delivery("http://127.0.0.1:9/")}),
        json!({"delivery": delivery("https://10.0.0.1/")}),
        json!({"delivery": delivery("no url")}),
    ] {
        let refused = provision(&app, &agent, "one", &body).await;
        assert_eq!(failure(&refused), (422, "webhook_verification_failed".into()), "{body}");
    }
    for (member, value) in [
        ("type", json!("mail")),
        ("registration_id", json!("")),
        ("signing_secret", json!("whsec_AAAA")),
        ("more", json!(1)),
    ] {
        let mut body = at("good");
        body["delivery"][member] = value;
        assert_eq!(failure(&provision(&app, &agent, "one", &body).await), (400, "invalid_request".into()), "{body}");
    }
    // Nothing was made of it.
    assert_eq!(provision(&app, &agent, "one", &at("good")).await.status, 201);
    // A key that asks makes no others.
    let asking = app.agent("asking").await;
    assert_eq!(failure(&provision(&app, &asking, "one", &json!({})).await).0, 403);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn instances_that_are_made_at_the_same_time_are_one(owner: PgPool) {
    let app = app(&owner);
    let agent = provisioner(&app, "harness").await;
    let body = json!({"instance_name": "Laptop"});
    let (a, b) = tokio::join!(provision(&app, &agent, "one", &body), provision(&app, &agent, "one", &body));
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!((statuses[1], a.json()), (201, b.json()), "{statuses:?}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_instance_ends_with_the_key_that_made_it(owner: PgPool) {
    let app = app(&owner);
    let agent = provisioner(&app, "harness").await;
    let end = "UPDATE agent_keys SET expires_at = now() + interval '1 hour' WHERE agent_id = 'harness'";
    sqlx::query(end).execute(&app.owner).await.expect("an end");
    let made = provision(&app, &agent, "one", &json!({})).await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.bytes));
    let told = made.json()["credential"]["expires_at"].as_str().expect("a time").to_owned();
    assert_eq!(provision(&app, &agent, "one", &json!({})).await.json(), made.json());
    let same: bool = sqlx::query_scalar("SELECT bool_and(expires_at = $1::timestamptz) FROM agent_keys")
        .bind(chrono::DateTime::parse_from_rfc3339(&told).expect("RFC 3339"))
        .fetch_one(&app.owner)
        .await
        .expect("keys");
    assert!(same, "{told}");
    // From then on its token is not accepted.
    let token = made.json()["credential"]["token"].as_str().expect("a token").to_owned();
    let over = "UPDATE agent_keys SET expires_at = now() WHERE instance_of IS NOT NULL";
    sqlx::query(over).execute(&app.owner).await.expect("an end");
    let body = json!({"tool": "Bash", "arguments": {}, "timeout": "10m"});
    assert_eq!(keyed(&app, "/aap/v1/requests", &token, "late", &body).await.status, 401);
}
