//! kill -9 of the service while executors consume, and while they report.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::join;
use tokio::time::sleep;

use super::{Permit, approve, execution};
use crate::agent::Agent;
use crate::drill::aim::Aim;
use crate::drill::crowd::{Crowd, settle};
use crate::drill::judge::judge;
use crate::drill::load::lost_calls;
use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::uses::{Reported, Used, fresh_key};
use crate::drill::{PATIENCE, Verdict, enough};

/// At the same time, each with a permit of its own.
const EXECUTORS: usize = 12;

/// What the drill has done.
#[derive(Default)]
struct Done {
    kills: u64,
    /// Kills that cut off some of the calls, or all.
    hits: u64,
    /// Uses and reports that were stored, and their answers lost.
    stored_unanswered: u64,
    /// Requests whose executors died after the use.
    dead: Vec<String>,
    /// Requests whose executors report when it is too late.
    late: Vec<String>,
}

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let mut service = scene.start_service(&[("LEASE_SECONDS", "1"), ("OUTCOME_SECONDS", "1")]).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = &agents[0];
    let mut crowd = Crowd::new(scene, &service, EXECUTORS);
    // From the calls to the kill: earlier after a kill that met nothing, later after one that let nothing be done.
    let aims = [Aim::new(4_000, 0..=1_000_000), Aim::new(4_000, 0..=1_000_000)];
    let mut done = Done::default();
    let least = scene.count / 2;
    while done.kills < scene.count || done.hits < least && done.kills < 4 * scene.count {
        let is_consumed_before = done.kills % 2 == 1;
        let aim = &aims[usize::from(is_consumed_before)];
        round(scene, &mut service, agent, &mut crowd, aim, is_consumed_before, &mut done).await?;
    }
    become_unknown(scene, &mut crowd).await?;
    report_late(agent, &mut crowd, &done).await?;
    settle(scene, &mut crowd.0[0]).await?;

    let unknown = scene.number("SELECT count(*) FROM hitl_requests WHERE execution = 'unknown'")?;
    ensure!(unknown == done.dead.len() as u64, "{unknown} outcomes are unknown, {} executors died", done.dead.len());
    let replaced = "SELECT count(*) FROM (
        SELECT request_id FROM approval_chain WHERE kind = 'outcome' GROUP BY request_id HAVING count(*) = 2) twice";
    let replaced = scene.number(replaced)?;
    ensure!(replaced == done.late.len() as u64, "{replaced} outcomes replaced another, {} were late", done.late.len());
    let findings = judge(scene).await?;
    let all = done.kills * EXECUTORS as u64;
    ensure!(findings.consumed == all, "{} of {all} permits are used", findings.consumed);
    let Done { kills, hits, stored_unanswered, .. } = done;
    let lost = lost_calls(&scene.history);
    let verdict = findings.verdict(&format!(
        "{kills} kills, {hits} amid consumes or reports, {lost} calls cut off, {stored_unanswered} uses and outcomes \
         stored without an answer, {unknown} outcomes unknown, {replaced} unknown ones replaced"
    ))?;
    enough(hits, least, "kills amid consumes or reports")?;
    Ok(verdict)
}

/// Everyone has a permit and consumes it, or has consumed it and reports. The service is killed meanwhile, started again,
/// and everyone repeats what they did until it is answered.
async fn round(
    scene: &Scene<'_>,
    service: &mut Service,
    agent: &Agent,
    crowd: &mut Crowd,
    aim: &Aim,
    is_consumed_before: bool,
    done: &mut Done,
) -> Result<()> {
    let (operator, number) = (&scene.operators[0], done.kills);
    let permits = crowd
        .at_once(async |index, client| {
            (approve(client, agent, operator, &format!("{number}-{index}")).await, fresh_key())
        })
        .await;
    if is_consumed_before {
        consume(agent, crowd, &permits).await?;
    }
    let acting = crowd.at_once(async |index, client| {
        let (Permit { request_id, action_digest }, key) = &permits[index];
        if is_consumed_before {
            client.report(agent, request_id, "succeeded").await != Reported::Unknown
        } else {
            client.consume(agent, request_id, key, action_digest).await != Used::Unknown
        }
    });
    let killing = async {
        sleep(aim.pause()).await;
        service.kill()
    };
    let (answered, killed) = join(acting, killing).await;
    killed?;
    service.start().await?;
    let answered = answered.into_iter().filter(|answered| *answered).count();
    done.kills += 1;
    done.hits += u64::from(answered < EXECUTORS);
    let stored = if is_consumed_before {
        report(agent, crowd, &permits).await?
    } else {
        consume(agent, crowd, &permits).await?
    };
    // Those whose answers came are repeated, too.
    let stored_unanswered = stored.saturating_sub(answered);
    done.stored_unanswered += stored_unanswered as u64;
    aim.learn(answered + stored_unanswered > EXECUTORS / 2);
    if !is_consumed_before {
        split(agent, crowd, permits, done).await?;
    }
    Ok(())
}

/// Each attempt again, until it is answered. How many had used their permit before.
async fn consume(agent: &Agent, crowd: &mut Crowd, permits: &[(Permit, String)]) -> Result<usize> {
    let used = crowd
        .at_once(async |index, client| {
            let (Permit { request_id, action_digest }, key) = &permits[index];
            client.consume_until_answered(agent, request_id, key, action_digest).await
        })
        .await;
    let refused = used.iter().find(|used| !matches!(used, Used::Yes { .. }));
    ensure!(refused.is_none(), "an attempt was answered with {refused:?}");
    Ok(used.iter().filter(|used| matches!(used, Used::Yes { repeated: true, .. })).count())
}

/// Each report again, until it is answered. How many were on record before.
async fn report(agent: &Agent, crowd: &mut Crowd, permits: &[(Permit, String)]) -> Result<usize> {
    let told = crowd
        .at_once(async |index, client| {
            client.report_until_answered(agent, &permits[index].0.request_id, "succeeded").await
        })
        .await;
    let refused = told.iter().find(|told| !matches!(told, Reported::Yes { .. }));
    ensure!(refused.is_none(), "a report was answered with {refused:?}");
    Ok(told.iter().filter(|told| matches!(told, Reported::Yes { repeated: true })).count())
}

/// Who reports at once, who too late, and who died.
async fn split(agent: &Agent, crowd: &mut Crowd, permits: Vec<(Permit, String)>, done: &mut Done) -> Result<()> {
    for (index, (permit, _)) in permits.into_iter().enumerate() {
        match index % 3 {
            0 => {
                let told = crowd.0[index].report_until_answered(agent, &permit.request_id, "succeeded").await;
                ensure!(told == Reported::Yes { repeated: false }, "a first report was answered with {told:?}");
            }
            1 => done.late.push(permit.request_id),
            _ => done.dead.push(permit.request_id),
        }
    }
    Ok(())
}

/// Sweeps until every use that nobody reported is said to be unknown.
async fn become_unknown(scene: &Scene<'_>, crowd: &mut Crowd) -> Result<()> {
    let begun = Instant::now();
    while scene.number("SELECT count(*) FROM outcomes_due WHERE unknown_at IS NULL")? > 0 {
        ensure!(begun.elapsed() < PATIENCE, "uses without a report are not unknown after {PATIENCE:?}");
        crowd.0[0].sweep(&scene.admin).await;
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The late ones are heard, once.
async fn report_late(agent: &Agent, crowd: &mut Crowd, done: &Done) -> Result<()> {
    let client = &mut crowd.0[0];
    for request_id in &done.late {
        let said = execution(client, agent, request_id).await?;
        ensure!(said == "unknown", "{request_id} is {said}, though nobody has reported it");
        let told = client.report_until_answered(agent, request_id, "failed").await;
        ensure!(told == Reported::Yes { repeated: false }, "a late report was answered with {told:?}");
        let other = client.report_until_answered(agent, request_id, "succeeded").await;
        ensure!(other.is_refused("outcome-conflict"), "a second outcome was answered with {other:?}");
    }
    Ok(())
}
