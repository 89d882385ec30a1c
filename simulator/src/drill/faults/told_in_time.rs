//! People are told by a webhook, by mail and in their browser, with NATS and without.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use hyper::Method;
use serde_json::json;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::agent::Agent;
use crate::drill::client::{Caller, Client};
use crate::drill::receivers::{By, Receivers};
use crate::drill::scene::Scene;
use crate::drill::{PATIENCE, Verdict, median};

/// The median from the 201, by each way, while NATS is there.
const PROMISED: Duration = Duration::from_secs(1);
/// Between two requests: each is told by itself.
const PACE: Duration = Duration::from_millis(100);

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let receivers = Receivers::start().await?;
    let smtp = format!("smtp://{}", receivers.smtp);
    let mail = [("SMTP_URL", smtp.as_str()), ("SMTP_FROM", "RelayTrace <relay@example.org>")];
    let service = scene.start_service(&mail).await?;
    let mut client = scene.client(&service);
    listen(scene, &mut client, &receivers).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = agents.first().context("an agent")?;

    let asked = ask(scene, &mut client, agent, "with-nats").await;
    wait_until_told(&receivers, &asked).await?;
    let medians = By::ALL.map(|by| (by, median_of(&receivers, by, &asked)));

    block_in_place(|| scene.nats.kill())?;
    let without = ask(scene, &mut client, agent, "without-nats").await;
    let swept = Instant::now();
    client.sweep(&scene.admin).await;
    wait_until_told(&receivers, &without).await?;
    let last = swept.elapsed();
    block_in_place(|| scene.nats.start_again())?;

    let of_all = |(id, _): &(String, Instant)| {
        By::ALL.map(|by| receivers.told(by, id).len().saturating_sub(1)).iter().sum::<usize>()
    };
    let again: usize = asked.iter().chain(&without).map(of_all).sum();
    let words: Vec<_> = medians.iter().map(|(by, median)| format!("{} {} ms", by.name(), median.as_millis())).collect();
    let did = format!(
        "{} requests told three ways, p50 from the 201: {}; {} more without NATS, the last of them {} ms after the one sweep \
         began; {again} told again",
        asked.len(),
        words.join(", "),
        without.len(),
        last.as_millis()
    );
    for (by, median) in medians {
        ensure!(median <= PROMISED, "{did}: {} takes too long", by.name());
    }
    ensure!(again == 0, "{did}: nothing failed, and something was told again");
    Ok(did)
}

/// A webhook, a mailbox, and a browser of an operator.
async fn listen(scene: &Scene<'_>, client: &mut Client, receivers: &Receivers) -> Result<()> {
    let url = |path: &str| format!("http://{}/{path}", receivers.http);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let webhook =
        json!({"kind": "webhook", "config": {"url": url("webhook"), "secret": secret}, "events": ["requested"]});
    let mail = json!({"kind": "email", "config": {"to": ["ops@example.org"]}, "events": ["requested"]});
    let browser = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let key = BASE64_URL_SAFE_NO_PAD.encode(browser.public_key());
    let push =
        json!({"endpoint": url("push"), "keys": {"p256dh": key, "auth": BASE64_URL_SAFE_NO_PAD.encode([7; 16])}});
    let operator = scene.operators.first().context("an operator")?;
    for (person, path, body) in [
        (&scene.admin, "/v1/admin/channels/webhook", webhook),
        (&scene.admin, "/v1/admin/channels/mail", mail),
        (operator, "/v1/hitl/push-subscriptions/phone", push),
    ] {
        client.must(Caller::Person(person), Method::PUT, path, Some(&body), 200).await?;
    }
    Ok(())
}

/// Requests, one after the other, and when each was answered with 201.
async fn ask(scene: &Scene<'_>, client: &mut Client, agent: &Agent, name: &str) -> Vec<(String, Instant)> {
    let mut asked = Vec::new();
    for number in 0..scene.count {
        let request_id = client.submit_until_answered(agent, &format!("{name}-{number}")).await;
        asked.push((request_id, Instant::now()));
        sleep(PACE).await;
    }
    asked
}

async fn wait_until_told(receivers: &Receivers, asked: &[(String, Instant)]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let missing = |by: &By| asked.iter().filter(|(id, _)| receivers.told(*by, id).is_empty()).count();
        let missing: Vec<_> =
            By::ALL.iter().map(|by| (by.name(), missing(by))).filter(|(_, count)| *count > 0).collect();
        if missing.is_empty() {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "of {} requests were never told: {missing:?}", asked.len());
        sleep(Duration::from_millis(5)).await;
    }
}

/// Median from the 201 to the first time that it was told; before it: none.
fn median_of(receivers: &Receivers, by: By, asked: &[(String, Instant)]) -> Duration {
    let told = |(id, at): &(String, Instant)| Some(receivers.told(by, id).first()?.saturating_duration_since(*at));
    median(asked.iter().filter_map(told).collect())
}
