//! Freezes that come while permits are used.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join;
use hyper::Method;
use serde_json::json;
use tokio::time::sleep;

use super::{Permit, approve};
use crate::agent::Agent;
use crate::drill::client::{Caller, Client, action_digest};
use crate::drill::crowd::{Crowd, settle, take_all};
use crate::drill::judge::judge;
use crate::drill::scene::Scene;
use crate::drill::uses::{Used, fresh_key};
use crate::drill::{PATIENCE, Verdict, enough};

/// Executors at the same time.
const EXECUTORS: usize = 8;
/// Permits that they use up while the freeze comes.
const RACED: usize = 40;
/// Permits that nobody tries before it has come.
const KEPT: usize = 8;
/// The administrator freezes after so many uses.
const BEFORE: usize = 4;

/// What the drill has seen.
#[derive(Default)]
struct Seen {
    /// Permits used between the order to freeze and its answer.
    amid: u64,
    /// Attempts refused, before the answer and after it.
    refused: u64,
    /// Permits that a hold let go when it ended.
    released: u64,
    /// Permits that a stop has revoked.
    revoked: u64,
}

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 2).await?;
    let mut crowd = Crowd::new(scene, &service, EXECUTORS);
    let mut admin = scene.client(&service);
    let mut seen = Seen::default();
    for round in 0..scene.count {
        let mode = if round % 2 == 0 { "hold" } else { "stop" };
        let done = freeze(scene, &agents, &mut crowd, &mut admin, (round, mode), &mut seen).await;
        done.with_context(|| format!("round {round}, {mode}"))?;
    }
    for agent in &agents {
        take_all(&mut crowd, agent).await;
    }
    settle(scene, &mut admin).await?;
    let Seen { amid, refused, released, revoked } = seen;
    let verdict = judge(scene).await?.verdict(&format!(
        "{} freezes: {amid} permits used while one came, 0 after its answer, {refused} attempts refused, {released} used \
         when a hold had ended, {revoked} revoked by stops and refused after their end",
        scene.count
    ))?;
    enough(amid, scene.count, "permits used while a freeze came")?;
    Ok(verdict)
}

/// A freeze comes over executors at work; then it is looked at, and ended.
async fn freeze(
    scene: &Scene<'_>,
    agents: &[Agent],
    crowd: &mut Crowd,
    admin: &mut Client,
    (round, mode): (u64, &str),
    seen: &mut Seen,
) -> Result<()> {
    let agent = &agents[0];
    let mut permits = make(scene, agent, crowd, round).await;
    let mut refused = permits.split_off(RACED);
    let pending = admin.submit_until_answered(agent, &format!("pending-{round}")).await;

    let (queue, uses) = (Mutex::new(permits), AtomicUsize::new(0));
    let using = crowd.at_once(async |_, client| {
        let mut tried = Vec::new();
        while let Some(permit) = next(&queue) {
            let used = consume(client, agent, &permit).await;
            uses.fetch_add(1, Ordering::Relaxed);
            tried.push((permit, used));
        }
        tried
    });
    let (tried, set) = join(using, set(scene, admin, agent, (round, mode), &uses)).await;
    let (ordered, answered) = set?;
    let is_hold = mode == "hold";
    let refusal = if is_hold { "frozen" } else { "permit-revoked" };
    for (permit, used) in tried.into_iter().flatten() {
        match used {
            Used::Yes { at, .. } => {
                let at: DateTime<Utc> = at.parse()?;
                ensure!(at <= answered, "a permit was used at {at}, the freeze was answered at {answered}");
                seen.amid += u64::from(at >= ordered);
            }
            Used::No(code) if code == refusal => refused.push(permit),
            other => anyhow::bail!("an attempt was answered with {other:?}"),
        }
    }
    // What is approved under a hold is held, too. A stop admits no approval.
    if is_hold {
        admin.decide_until_answered(&scene.operators[0], &pending, true).await;
        refused.push(Permit { request_id: pending, action_digest: action_digest(&format!("pending-{round}")) });
    } else {
        reject_by_sweep(scene, admin, &pending).await?;
    }
    all_refused(admin, agent, &refused, refusal).await?;
    seen.refused += refused.len() as u64;
    let elsewhere = approve(admin, &agents[1], &scene.operators[0], &format!("elsewhere-{round}")).await;
    let used = consume(admin, &agents[1], &elsewhere).await;
    ensure!(matches!(used, Used::Yes { .. }), "a permit that the freeze does not cover was answered with {used:?}");

    let path = format!("/v1/admin/freezes/drill-{round}");
    admin.must(Caller::Person(&scene.admin), Method::DELETE, &path, None, 204).await?;
    if is_hold {
        for permit in &refused {
            let used = consume(admin, agent, permit).await;
            ensure!(matches!(used, Used::Yes { .. }), "after the hold a permit was answered with {used:?}");
        }
        seen.released += refused.len() as u64;
    } else {
        all_refused(admin, agent, &refused, refusal).await?;
        seen.revoked += refused.len() as u64;
        let new = approve(admin, agent, &scene.operators[0], &format!("new-{round}")).await;
        let used = consume(admin, agent, &new).await;
        ensure!(matches!(used, Used::Yes { .. }), "an approval from after the stop was answered with {used:?}");
    }
    Ok(())
}

/// Approvals of one agent, made at the same time.
async fn make(scene: &Scene<'_>, agent: &Agent, crowd: &mut Crowd, round: u64) -> Vec<Permit> {
    let each = (RACED + KEPT).div_ceil(EXECUTORS);
    let made = crowd
        .at_once(async |index, client| {
            let mut permits = Vec::with_capacity(each);
            for number in 0..each {
                let key = format!("key-{round}-{index}-{number}");
                permits.push(approve(client, agent, &scene.operators[index], &key).await);
            }
            permits
        })
        .await;
    made.into_iter().flatten().collect()
}

fn next(queue: &Mutex<Vec<Permit>>) -> Option<Permit> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// A fresh attempt.
async fn consume(client: &mut Client, agent: &Agent, permit: &Permit) -> Used {
    client.consume_until_answered(agent, &permit.request_id, &fresh_key(), &permit.action_digest).await
}

async fn all_refused(client: &mut Client, agent: &Agent, permits: &[Permit], refusal: &str) -> Result<()> {
    for permit in permits {
        let used = consume(client, agent, permit).await;
        ensure!(used.is_refused(refusal), "a frozen permit was answered with {used:?}");
    }
    Ok(())
}

/// Freezes the agent when executors are at work. When that was ordered, and when it was answered.
#[expect(clippy::disallowed_methods, reason = "the service's clock is the system's")]
async fn set(
    scene: &Scene<'_>,
    admin: &mut Client,
    agent: &Agent,
    (round, mode): (u64, &str),
    uses: &AtomicUsize,
) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
    let begun = Instant::now();
    while uses.load(Ordering::Relaxed) < BEFORE {
        ensure!(begun.elapsed() < PATIENCE, "executors used nothing");
        sleep(Duration::from_millis(1)).await;
    }
    let ordered = Utc::now();
    let until = ordered + TimeDelta::hours(1);
    let freeze = json!({"agent_id": agent.id, "mode": mode, "until": until, "reason": "a drill"});
    let path = format!("/v1/admin/freezes/drill-{round}");
    loop {
        // 503: it stands, and what was under way when it came has not ended yet. The same again waits again.
        let reply = admin.call(Caller::Person(&scene.admin), Method::PUT, &path, Some(&freeze)).await;
        let reply = reply.context("a freeze was not answered")?;
        match reply.status.as_u16() {
            200 => return Ok((ordered, Utc::now())),
            503 => ensure!(begun.elapsed() < PATIENCE, "a freeze does not come into force"),
            _ => anyhow::bail!("a freeze was answered with {} {}", reply.status, reply.body),
        }
    }
}

/// Nobody approves what a stop covers, and a sweep rejects it.
async fn reject_by_sweep(scene: &Scene<'_>, admin: &mut Client, request_id: &str) -> Result<()> {
    let path = format!("/v1/hitl/requests/{request_id}/decision");
    let operator = Caller::Person(&scene.operators[0]);
    let refused = admin.must(operator, Method::POST, &path, Some(&json!({"decision": "approve"})), 409).await?;
    ensure!(refused["code"] == "frozen", "an approval under a stop was answered with {refused}");
    let begun = Instant::now();
    loop {
        ensure!(begun.elapsed() < PATIENCE, "no sweep rejects what a stop covers");
        admin.sweep(&scene.admin).await;
        let path = format!("/v1/hitl/requests/{request_id}");
        let detail = admin.must(operator, Method::GET, &path, None, 200).await?;
        if detail["status"] == "decided" {
            let (outcome, cause) = (&detail["decision"]["outcome"], &detail["decision"]["cause"]);
            ensure!(*outcome == "rejected" && *cause == "admin", "a stopped request is {outcome} by {cause}");
            return Ok(());
        }
    }
}
