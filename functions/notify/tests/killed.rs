//! A notifier that is killed at any moment: everything is told at least once, and by far the most once.

mod support;

use std::process::{Child, Command, Stdio};

use axum::http::StatusCode;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestApp, until};
use serde_json::json;
use sqlx::PgPool;
use support::{Receiver, app, publish_all, rows, webhook};

const OK: fn(&str, usize) -> StatusCode = |_, _| StatusCode::OK;
const MESSAGES: usize = 1_200;
const KILLS: usize = 8;
/// Messages that one notifier has under way: what is told again after a kill, at the most.
const UNDER_WAY: usize = 64;

/// The function as a process of its own, over the test's database.
fn notifier(owner: &PgPool) -> Child {
    let of = owner.connect_options();
    let (user, host, port) = (of.get_username(), of.get_host(), of.get_port());
    let database = of.get_database().expect("a database");
    Command::new(env!("CARGO_BIN_EXE_notify"))
        .env_clear()
        .env("DATABASE_URL", format!("postgres://{user}@{host}:{port}/{database}"))
        .env("NATS_URL", "nats://127.0.0.1:9")
        .env("DEPLOYMENT_NAME", "test")
        .env("ISSUER", "https://issuer.test")
        .env("ISSUER_JWKS_URL", "https://issuer.test/jwks")
        .env("CHANNEL_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
        .env("EGRESS_ALLOW", "http://127.0.0.1")
        .env("BIND_ADDRESS", "127.0.0.1")
        .env("PORT", "0")
        .env("RUST_LOG", "error")
        .stdout(Stdio::null())
        .spawn()
        .expect("the notifier")
}

async fn ask(app: &TestApp) {
    let agent = app.agent("billing").await;
    for number in 0..MESSAGES {
        app.submit(&agent, &format!("key-{number}")).await;
    }
    publish_all(app).await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_notifier_that_is_killed_again_and_again_tells_everything(owner: PgPool) {
    let (app, receiver) = (app(&owner), Receiver::start(OK).await);
    webhook(&app, "ops", &format!("{}/ops", receiver.address), &json!({})).await;
    ask(&app).await;
    let told = || receiver.taken().len();
    let mut process = notifier(&owner);
    for _ in 0..KILLS {
        // Somewhere in the next messages: while some are under way, and results of others are not noted.
        let next = told() + rand::random_range(1..MESSAGES / (KILLS + 2));
        until(async || told() >= next).await;
        process.kill().expect("killed");
        process.wait().expect("over");
        // The leases of what it had taken end.
        sqlx::query("UPDATE notifications SET due_at = now() WHERE due_at > now()")
            .execute(&owner)
            .await
            .expect("leases");
        process = notifier(&owner);
    }
    until(async || rows(&app, "notifications").await + rows(&app, "events_to_tell").await == 0).await;
    process.kill().expect("killed");
    process.wait().expect("over");
    let taken = receiver.taken();
    let again: usize = taken.values().map(|times| times - 1).sum();
    println!("{MESSAGES} messages, {KILLS} kills: {} told, {again} of them again", taken.len());
    assert_eq!(taken.len(), MESSAGES);
    assert!(again <= KILLS * UNDER_WAY, "{again} were told again");
}
