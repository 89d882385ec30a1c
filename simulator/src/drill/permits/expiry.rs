//! At the end of permits, and after it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use futures_util::future::{join, join_all};
use hyper::Method;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use super::{approve, execution};
use crate::agent::Agent;
use crate::drill::aim::Aim;
use crate::drill::client::{Acknowledged, Caller, Client, text};
use crate::drill::crowd::settle;
use crate::drill::judge::judge;
use crate::drill::scene::{Person, Scene};
use crate::drill::uses::{Used, fresh_key};
use crate::drill::{PATIENCE, Verdict, enough};

/// The shortest life of a permit, in seconds.
const LIFE: &str = "10";
/// Races at the same time.
const RACERS: usize = 8;
/// From one permit to the next: each race is to learn from those before it.
const PACE: Duration = Duration::from_millis(25);

/// A permit, and when it ends.
#[derive(Clone)]
struct Ending {
    request_id: String,
    action_digest: String,
    expires_at: DateTime<Utc>,
}

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[("PERMIT_SECONDS", LIFE)]).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = &agents[0];
    let aim = Aim::new(-2_000, -5_000_000..=5_000_000);
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let races = join_all((0..RACERS).map(|_| race(scene.client(&service), agent, &aim, receiver.clone())));
    let making = make(scene.client(&service), agent, &scene.operators[0], scene.count, sender);
    let (made, raced) = join(making, races).await;
    made?;
    let raced = raced.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let mut client = scene.client(&service);
    let (used, unused): (Vec<_>, Vec<_>) = raced.into_iter().partition(|(_, is_used)| *is_used);
    let unused: HashMap<_, _> = unused.into_iter().map(|(ending, _)| (ending.request_id.clone(), ending)).collect();
    for (ending, _) in &used {
        let again = client.consume(agent, &ending.request_id, &fresh_key(), &ending.action_digest).await;
        ensure!(again.is_refused("already-consumed"), "a used permit was answered with {again:?}");
    }
    let replayed = replay(scene, &mut client, agent, &unused).await?;
    for request_id in unused.keys() {
        let said = execution(&mut client, agent, request_id).await?;
        ensure!(said == "unused", "{request_id} expired without a use and is {said}");
    }
    settle(scene, &mut client).await?;
    let findings = judge(scene).await?;
    let (in_time, late) = (used.len() as u64, unused.len() as u64);
    ensure!(findings.consumed == in_time, "{} permits are used, {in_time} were told so", findings.consumed);
    let verdict = findings.verdict(&format!(
        "{} races with the end: {in_time} won, {late} lost; {replayed} expired ones replayed, none renewed",
        scene.count
    ))?;
    enough(in_time, scene.count / 20, "permits used before their end")?;
    enough(late, scene.count / 20, "permits that expired first")?;
    Ok(verdict)
}

/// Approves one request after the other.
async fn make(
    mut client: Client,
    agent: &Agent,
    operator: &Person,
    count: u64,
    to: mpsc::UnboundedSender<Ending>,
) -> Result<()> {
    for number in 0..count {
        let begun = Instant::now();
        let permit = approve(&mut client, agent, operator, &format!("key-{number}")).await;
        let path = format!("/v1/agents/{}/requests/{}", agent.id, permit.request_id);
        let view = client.must(Caller::Agent(agent), Method::GET, &path, None, 200).await?;
        let expires_at = text(&view["permit"], "expires_at").parse().context("a permit without an end")?;
        let ending = Ending { request_id: permit.request_id, action_digest: permit.action_digest, expires_at };
        to.send(ending).ok().context("nobody races")?;
        sleep(PACE.saturating_sub(begun.elapsed())).await;
    }
    Ok(())
}

/// Uses one permit after the other, each about when it ends. Whether each was used.
async fn race(
    mut client: Client,
    agent: &Agent,
    aim: &Aim,
    permits: Arc<Mutex<mpsc::UnboundedReceiver<Ending>>>,
) -> Result<Vec<(Ending, bool)>> {
    let mut raced = Vec::new();
    loop {
        let Some(ending) = permits.lock().await.recv().await else { return Ok(raced) };
        // The races before this one have something to say until shortly before it.
        sleep_until(ending.expires_at - PACE * 2).await;
        sleep_until(ending.expires_at + chrono::TimeDelta::microseconds(aim.offset())).await;
        let key = fresh_key();
        let used = client.consume_until_answered(agent, &ending.request_id, &key, &ending.action_digest).await;
        let is_used = match used {
            Used::Yes { repeated, at } => {
                ensure!(!repeated, "a fresh attempt was told that it is repeated");
                let at: DateTime<Utc> = at.parse()?;
                ensure!(at < ending.expires_at, "used at {at}, though it ended at {}", ending.expires_at);
                true
            }
            Used::No(code) if code == "permit-expired" => false,
            other => anyhow::bail!("an attempt at the end was answered with {other:?}"),
        };
        aim.learn(!is_used);
        raced.push((ending, is_used));
    }
}

/// Replays every expired one: the delivery says the end that it always had, and the permit is as useless as before.
async fn replay(
    scene: &Scene<'_>,
    client: &mut Client,
    agent: &Agent,
    expired: &HashMap<String, Ending>,
) -> Result<usize> {
    let ids: Vec<_> = expired.keys().collect();
    for (number, ids) in ids.chunks(100).enumerate() {
        let order = json!({"replay_key": format!("expired-{number}"), "target": "deliveries",
            "scope": {"request_ids": ids}, "reason": "a drill"});
        client.must(Caller::Person(&scene.admin), Method::POST, "/v1/admin/replay", Some(&order), 202).await?;
    }
    let (begun, mut seen) = (Instant::now(), 0);
    while seen < expired.len() {
        ensure!(begun.elapsed() < PATIENCE, "{seen} of {} replayed decisions came", expired.len());
        for delivery in client.poll(agent, 1, 20).await.unwrap_or_default() {
            let ending = expired.get(&delivery.request_id).context("a used permit was delivered")?;
            let says: DateTime<Utc> = delivery.permit_expires_at.as_deref().unwrap_or_default().parse()?;
            ensure!(says == ending.expires_at, "a replay says {says}, the permit ended at {}", ending.expires_at);
            let used = client.consume(agent, &delivery.request_id, &fresh_key(), &ending.action_digest).await;
            ensure!(used.is_refused("permit-expired"), "an expired permit was answered with {used:?}");
            let said = client.acknowledge(agent, &delivery, "accepted").await;
            ensure!(said == Acknowledged::State("acknowledged".to_owned()), "accepting was answered with {said:?}");
            seen += 1;
        }
    }
    Ok(seen)
}

#[expect(clippy::disallowed_methods, reason = "the service's clock is the system's")]
async fn sleep_until(moment: DateTime<Utc>) {
    sleep((moment - Utc::now()).to_std().unwrap_or_default()).await;
}
