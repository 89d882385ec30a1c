//! Decisions that are delivered again while their permits are used, and after it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join3;
use hyper::Method;
use serde_json::json;
use tokio::time::sleep;

use super::{Permit, approve};
use crate::agent::Agent;
use crate::drill::aim::Aim;
use crate::drill::client::{Acknowledged, Caller, Client};
use crate::drill::crowd::settle;
use crate::drill::judge::judge;
use crate::drill::scene::Scene;
use crate::drill::uses::{Used, fresh_key};
use crate::drill::{PATIENCE, Verdict, enough};

/// How a race went.
struct Raced {
    /// The decision was requeued before its permit was used.
    is_requeued: bool,
    /// Who got it then used the permit.
    is_used_by_second: bool,
}

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = &agents[0];
    let mut clients = [scene.client(&service), scene.client(&service), scene.client(&service)];
    // From the order to requeue to the use; below zero the use is first.
    let aim = Aim::new(1_000, -1_000_000..=1_000_000);
    let (mut requeued, mut second, mut permits) = (0, 0, HashMap::new());
    for number in 0..scene.count {
        let permit = approve(&mut clients[0], agent, &scene.operators[0], &format!("key-{number}")).await;
        let raced = race(scene, agent, &mut clients, &permit, &aim).await?;
        aim.learn(raced.is_requeued);
        requeued += u64::from(raced.is_requeued);
        second += u64::from(raced.is_used_by_second);
        permits.insert(permit.request_id, permit.action_digest);
    }
    let late = replay(scene, agent, &mut clients[0], &permits).await?;
    settle(scene, &mut clients[0]).await?;
    let findings = judge(scene).await?;
    ensure!(findings.consumed == scene.count, "{} of {} permits are used", findings.consumed, scene.count);
    let first = scene.count - requeued;
    let verdict = findings.verdict(&format!(
        "{} races: {requeued} requeued before the use, {first} used before the requeue, {second} used by the second \
         executor; {late} replayed after their use, all refused",
        scene.count
    ))?;
    enough(requeued, scene.count / 20, "decisions requeued before their use")?;
    enough(first, scene.count / 20, "permits used before the requeue")?;
    Ok(verdict)
}

/// One executor uses the permit, an administrator requeues the decision, and a second executor tries with what it gets.
async fn race(
    scene: &Scene<'_>,
    agent: &Agent,
    clients: &mut [Client; 3],
    permit: &Permit,
    aim: &Aim,
) -> Result<Raced> {
    let Permit { request_id, action_digest } = permit;
    let [first, second, admin] = clients;
    let begun = Instant::now();
    while first.poll(agent, 1, 100).await.unwrap_or_default().is_empty() {
        ensure!(begun.elapsed() < PATIENCE, "a decision was not delivered");
    }
    let is_over = AtomicBool::new(false);
    let (pause, head_start) = (aim.pause(), aim.head_start());
    let using = async {
        sleep(pause).await;
        let used = first.consume_until_answered(agent, request_id, &fresh_key(), action_digest).await;
        is_over.store(true, Ordering::Relaxed);
        used
    };
    let requeueing = async {
        let path = format!("/v1/admin/requests/{request_id}/disposition");
        let order = json!({"action": "requeue", "reason": "a drill"});
        sleep(head_start).await;
        admin.call(Caller::Person(&scene.admin), Method::POST, &path, Some(&order)).await
    };
    let trying = async {
        loop {
            let was_over = is_over.load(Ordering::Relaxed);
            let again = second.poll(agent, 0, 100).await.unwrap_or_default();
            if let Some(delivery) = again.first() {
                return Some(second.consume(agent, &delivery.request_id, &fresh_key(), action_digest).await);
            }
            if was_over {
                return None;
            }
        }
    };
    let (used, requeued, tried) = join3(using, requeueing, trying).await;
    let requeued = requeued.context("an order to requeue was not answered")?;
    let is_requeued = match requeued.status.as_u16() {
        200 => true,
        409 => false,
        _ => anyhow::bail!("an order to requeue was answered with {} {}", requeued.status, requeued.body),
    };
    let is_yes = |used: &Used| matches!(used, Used::Yes { repeated: false, .. });
    let is_no = |used: &Used| used.is_refused("already-consumed");
    let is_used_by_second = tried.as_ref().is_some_and(is_yes);
    let is_fair = if is_used_by_second { is_no(&used) } else { is_yes(&used) && tried.as_ref().is_none_or(is_no) };
    ensure!(is_fair, "one permit, two executors: {used:?} and {tried:?}");
    ensure!(is_requeued || tried.is_none(), "a decision was delivered again though it was not requeued");
    Ok(Raced { is_requeued, is_used_by_second })
}

/// Replays every used one: it is delivered, and can neither be used nor refused any more.
async fn replay(
    scene: &Scene<'_>,
    agent: &Agent,
    client: &mut Client,
    permits: &HashMap<String, String>,
) -> Result<usize> {
    let ids: Vec<_> = permits.keys().collect();
    for (number, ids) in ids.chunks(100).enumerate() {
        let order = json!({"replay_key": format!("used-{number}"), "target": "deliveries",
            "scope": {"request_ids": ids}, "reason": "a drill"});
        client.must(Caller::Person(&scene.admin), Method::POST, "/v1/admin/replay", Some(&order), 202).await?;
    }
    let (begun, mut seen) = (Instant::now(), 0);
    while seen < permits.len() {
        ensure!(begun.elapsed() < PATIENCE, "{seen} of {} replayed decisions came", permits.len());
        for delivery in client.poll(agent, 1, 20).await.unwrap_or_default() {
            let digest = permits.get(&delivery.request_id).context("an unknown request was delivered")?;
            let used = client.consume(agent, &delivery.request_id, &fresh_key(), digest).await;
            ensure!(used.is_refused("already-consumed"), "a replayed permit was answered with {used:?}");
            let path = format!("/v1/agents/{}/decisions/{}/ack", agent.id, delivery.request_id);
            for result in ["retry", "failed"] {
                let body = json!({"delivery_id": delivery.delivery_id, "result": result});
                let refused = client.must(Caller::Agent(agent), Method::POST, &path, Some(&body), 409).await?;
                ensure!(refused["code"] == "already-consumed", "{result} of a used one was answered with {refused}");
            }
            let said = client.acknowledge(agent, &delivery, "accepted").await;
            ensure!(said == Acknowledged::State("acknowledged".to_owned()), "accepting was answered with {said:?}");
            seen += 1;
        }
    }
    Ok(seen)
}
