//! A restore to an older point, played as docs/guides/operate.md says it: what was lost is noticed, what comes after is
//! taken for itself, and no approval is used twice.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic as their tests may")]

use std::collections::BTreeMap;
use std::path::Path;

use async_nats::jetstream;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use relaytrace_servers::{Durability, Nats, Postgres, scratch_folder};
use relaytrace_service::events::STREAM;
use relaytrace_service::history;
use relaytrace_service::http::common_routes;
use relaytrace_store::{RolePrefix, declare_restore, migrate};
use relaytrace_testing::{Answer, TestAgent, TestApp, until};
use serde_json::{Value, json};
use sqlx::PgPool;

/// The deployment over one database. Its stream is that of all.
async fn deployment(postgres: &Postgres, nats: &Nats, database: &str) -> TestApp {
    let owner = PgPool::connect(&postgres.url(database)).await.unwrap();
    migrate(&owner.connect_options(), &RolePrefix::default()).await.unwrap();
    let routes = admin::router().merge(ingest::router()).merge(decide::router()).merge(poll::router());
    TestApp::with_nats(&owner, routes.merge(replay::router()).merge(common_routes()), &nats.url())
}

async fn decide(app: &TestApp, id: &str, decision: &str) {
    let body = json!({"decision": decision, "reason": "looked at"});
    let answer = app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), &body).await;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.bytes));
}

async fn consume(app: &TestApp, agent: &TestAgent, id: &str) -> Answer {
    let detail = app.get(&format!("/v1/hitl/requests/{id}"), &app.operator("maria")).await.json();
    let used = json!({"consume_key": "0123456789abcdef", "action_digest": detail["action_digest"]});
    app.post(&format!("/v1/agents/a/requests/{id}/consume"), &agent.token(), &used).await
}

async fn polled(app: &TestApp, agent: &TestAgent, id: &str) -> Value {
    let path = format!("/v1/agents/a/decisions/poll?request_id={id}");
    app.get(&path, &agent.token()).await.json()["decisions"][0].clone()
}

fn claims(receipt: &Value) -> Value {
    let claims = receipt.as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// Events of the stream by their ids, once everything is on it.
async fn events(app: &TestApp, nats: &Nats) -> BTreeMap<String, Value> {
    until(async || {
        let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&app.owner).await.unwrap();
        waiting == 0
    })
    .await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = jetstream::new(client).get_stream(STREAM).await.unwrap();
    let mut events = BTreeMap::new();
    for sequence in 1..=stream.get_info().await.unwrap().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let event: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(event["id"], message.headers.get("Nats-Msg-Id").unwrap().as_str());
        assert!(events.insert(event["id"].as_str().unwrap().to_owned(), event).is_none(), "an id is there once");
    }
    events
}

/// Runs a program of Postgres's; what it wrote.
fn program(postgres: &Postgres, name: &str, arguments: &[&str], file: Option<&Path>) -> Vec<u8> {
    let output = postgres.program(name).args(arguments).args(file).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn after_a_declared_restore_nothing_is_taken_for_what_was_lost() {
    let folder = scratch_folder().unwrap();
    let postgres = Postgres::start(&folder.path().join("postgres"), Durability::Throwaway).unwrap();
    let nats = Nats::start(&folder.path().join("nats"), Durability::Throwaway).unwrap();
    for database in ["lived", "restored"] {
        postgres.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
    }
    let lived = deployment(&postgres, &nats, "lived").await;
    let agent = lived.agent("a").await;
    let (pending, approved) = (lived.submit(&agent, "pending").await, lived.submit(&agent, "approved").await);
    decide(&lived, &approved, "approve").await;
    let before = events(&lived, &nats).await;
    let dump = folder.path().join("relaytrace.dump");
    let dumped = program(&postgres, "pg_dump", &["--format=custom", "--dbname", &postgres.url("lived")], None);
    std::fs::write(&dump, dumped).unwrap();

    // What will be lost: a decision, a use, a request. Events tell of it.
    lived.advance(0.001);
    decide(&lived, &pending, "approve").await;
    assert_eq!(consume(&lived, &agent, &approved).await.status, 200);
    let lost = lived.submit(&agent, "lost").await;
    let told = events(&lived, &nats).await;
    assert_eq!(told.len(), before.len() + 3);
    assert_eq!(told[&format!("{pending}/2")]["data"]["outcome"], "approved");
    assert!(history::look(&lived.state).await, "this database has what it told");

    // The same after a restore: noticed, and not ready, until it is declared.
    let url = postgres.url("restored");
    program(&postgres, "pg_restore", &["--no-owner", "--no-acl", "--exit-on-error", "--dbname", &url], Some(&dump));
    let restored = deployment(&postgres, &nats, "restored").await;
    assert!(!history::look(&restored.state).await, "it is an older copy");
    assert_eq!(restored.get("/readyz", "").await.status, 503);
    let owner = restored.owner.connect_options();
    let declared = declare_restore(&owner, None, "The disk was lost.").await.unwrap();
    assert_eq!((declared.epoch, declared.is_new, declared.ended_permits, declared.pending), (2, true, 1, 1));
    let again = declare_restore(&owner, None, "The disk was lost.").await.unwrap();
    assert_eq!((again.epoch, again.is_new, again.ended_permits), (2, false, 0));
    assert!(history::look(&restored.state).await, "what was lost is known");
    assert_eq!(restored.get("/readyz", "").await.status, 200);
    let log = restored.get("/v1/admin/log", &restored.person("root", &["admin"])).await;
    assert_eq!(log.status, 200);

    // The database's own clock declared it, after the one of this test stood still.
    restored.advance(60.0);
    // Nobody knows here that the approval was used: it cannot be used again.
    let refused = consume(&restored, &agent, &approved).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "permit-expired".to_owned()));
    assert_eq!(claims(&polled(&restored, &agent, &approved).await["receipt"])["epoch"], Value::Null);

    // Decided otherwise, with the same place in the chain: an event and a receipt of their own.
    decide(&restored, &pending, "reject").await;
    let delivered = polled(&restored, &agent, &pending).await;
    assert_eq!(claims(&delivered["receipt"])["epoch"], 2);
    let anew = restored.submit(&agent, "lost").await;
    assert_ne!(anew, lost);
    let now = events(&restored, &nats).await;
    let (first, second) = (&now[&format!("{pending}/2")], &now[&format!("{pending}/2/2")]);
    assert_eq!((&first["data"]["outcome"], &second["data"]["outcome"]), (&json!("approved"), &json!("rejected")));
    assert!(now.contains_key(&format!("{anew}/1/2")));
    assert!(told.iter().all(|(id, event)| now.get(id) == Some(event)), "what was told stays as it was");

    let export =
        restored.get(&format!("/v1/admin/requests/{pending}/chain"), &restored.person("root", &["admin"])).await;
    let export = export.json();
    assert_eq!(relaytrace_verify::verify_chain(&export), []);
    assert_eq!(relaytrace_verify::verify_event(second, &export), []);
    assert_ne!(relaytrace_verify::verify_event(first, &export), [], "it tells of another history");
    let decided = BASE64_STANDARD.decode(export["entries"][1]["entry"].as_str().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&decided).unwrap()["epoch"], 2);

    // A replay repeats ids and bytes of both epochs.
    let order = json!({"replay_key": "k", "target": "events", "scope": {"request_ids": [pending]}, "reason": "again"});
    let replayed = restored.post("/v1/admin/replay", &restored.person("root", &["admin"]), &order).await.json();
    assert_eq!(replayed["done"], 2);
    assert_eq!(events(&restored, &nats).await, now);
}
