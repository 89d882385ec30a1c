//! At the deadline, and after it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::future::{join, join_all, try_join_all};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::agent::Agent;
use crate::drill::aim::Aim;
use crate::drill::client::{Caller, Client};
use crate::drill::crowd::{Crowd, set_policy, settle, submit_all, take_all};
use crate::drill::history::Record;
use crate::drill::judge::judge;
use crate::drill::scene::{Person, Scene};
use crate::drill::service::Service;
use crate::drill::{PATIENCE, Verdict, enough, stream};
use crate::http::Connection;

/// Sweeps at once.
const SWEEPS: usize = 10;
/// Requests whose time is not over.
const EARLY: u64 = 200;
/// Races at the same time.
const RACES: usize = 20;
/// Clients that submit and acknowledge.
const CLIENTS: usize = 16;

pub async fn operator_against_sweep(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = &agents[0];
    let mut client = scene.client(&service);
    set_policy(scene, &mut client, agent, 1).await?;
    let each = scene.count.div_ceil(RACES as u64);
    let aim = Aim::new(-2_500, -500_000..=500_000);
    let races = join_all((0..RACES).map(|index| {
        let (operator, client) = (&scene.operators[index], scene.client(&service));
        race(client, agent, operator, &aim, index, each)
    }));
    let outcomes = tokio::select! {
        outcomes = races => outcomes,
        (never, _) = join(sweep_for_ever(scene, &service), sweep_for_ever(scene, &service)) => match never {},
    };
    outcomes.into_iter().collect::<Result<Vec<()>>>()?;
    let mut crowd = Crowd::new(scene, &service, CLIENTS);
    while scene.number("SELECT count(*) FROM hitl_requests WHERE status = 'pending'")? > 0 {
        client.sweep(&scene.admin).await;
    }
    take_all(&mut crowd, agent).await;
    settle(scene, &mut client).await?;
    let wrong = scene.number(
        "SELECT count(*) FROM hitl_decisions d JOIN hitl_requests r USING (request_id)
        WHERE (d.cause = 'operator') <> (d.decided_at < r.respond_by)",
    )?;
    ensure!(wrong == 0, "{wrong} operators decided after the deadline, or sweeps before it");
    let by_operator = scene.number("SELECT count(*) FROM hitl_decisions WHERE cause = 'operator'")?;
    let told = scene.history.count(|record| matches!(record, Record::Decided { .. }));
    ensure!(by_operator == told, "{by_operator} operators won, {told} were told so");
    let all = scene.number("SELECT count(*) FROM hitl_decisions")?;
    let events = decided_events(scene, agent).await?;
    ensure!(events == all, "{all} decisions have {events} `decided` events");
    let findings = judge(scene).await?;
    let by_sweep = all - by_operator;
    let verdict =
        findings.verdict(&format!("{all} races: {by_operator} won by the operator, {by_sweep} by the sweep"))?;
    enough(by_operator, all / 10, "races won by the operator")?;
    enough(by_sweep, all / 10, "races won by the sweep")?;
    Ok(verdict)
}

/// Submits, and decides about when the deadline is, before or after it as the races before went; again and again.
async fn race(
    mut client: Client,
    agent: &Agent,
    operator: &Person,
    aim: &Aim,
    number: usize,
    rounds: u64,
) -> Result<()> {
    for round in 0..rounds {
        let begun = Instant::now();
        let request_id = client.submit_until_answered(agent, &format!("race-{number}-{round}")).await;
        // It was accepted somewhere in between.
        let deadline = begun + begun.elapsed() / 2 + Duration::from_secs(1);
        sleep(aim.moment(deadline).saturating_duration_since(Instant::now())).await;
        aim.learn(!decide(&mut client, operator, &request_id).await?);
    }
    Ok(())
}

/// Decides; an answer that is too late is an answer. Whether it was in time.
async fn decide(client: &mut Client, operator: &Person, request_id: &str) -> Result<bool> {
    let path = format!("/v1/hitl/requests/{request_id}/decision");
    let body = json!({"decision": "approve"});
    let reply = client.call(Caller::Person(operator), Method::POST, &path, Some(&body)).await;
    let reply = reply.context("a decision was not answered")?;
    let (status, code) = (reply.status.as_u16(), reply.text("code"));
    match (status, &*code) {
        (201, _) => {
            client.history().add(Record::Decided {
                request_id: request_id.to_owned(),
                outcome: reply.text("outcome"),
                operator: operator.id.clone(),
            });
            Ok(true)
        }
        (409, "already-decided") => {
            let standing = &reply.body["decision"];
            ensure!(standing["cause"] == "timeout", "{request_id} was decided by someone else: {standing}");
            Ok(false)
        }
        (409, "expired") => Ok(false),
        _ => anyhow::bail!("{request_id}: the operator was told {status} {}", reply.body),
    }
}

pub(super) async fn sweep_for_ever(scene: &Scene<'_>, service: &Service) -> std::convert::Infallible {
    let mut client = scene.client(service);
    loop {
        client.sweep(&scene.admin).await;
    }
}

/// `decided` events of an agent's requests on the stream, each id once.
async fn decided_events(scene: &Scene<'_>, agent: &Agent) -> Result<u64> {
    let mut events = 0;
    for payloads in stream::read(&scene.nats.url()).await?.into_values() {
        let event: Value = serde_json::from_slice(&payloads[0])?;
        events += u64::from(event["type"] == "handoff.decided" && event["data"]["agent_id"] == *agent.id);
    }
    Ok(events)
}

pub async fn overlapping_sweeps(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 2).await?;
    let (due, early) = (&agents[0], &agents[1]);
    let mut crowd = Crowd::new(scene, &service, CLIENTS);
    set_policy(scene, &mut crowd.0[0], due, 1).await?;
    submit_all(&mut crowd, due, scene.count, "due").await;
    submit_all(&mut crowd, early, EARLY, "early").await;
    sleep(Duration::from_millis(1_100)).await;
    let pending =
        scene.number("SELECT count(*) FROM hitl_requests WHERE status = 'pending' AND respond_by <= now()")?;
    ensure!(pending == scene.count, "{pending} requests are due, not {}", scene.count);

    let begun = Instant::now();
    let reports = try_join_all((0..SWEEPS).map(|_| whole_sweep(scene, &service))).await?;
    let took = begun.elapsed();
    let swept: u64 = reports.iter().filter_map(|report| report["expired"].as_u64()).sum();
    ensure!(swept == scene.count, "{SWEEPS} sweeps expired {swept} of {} due requests", scene.count);
    let busy = reports.iter().filter(|report| report["expired"].as_u64() > Some(0)).count();

    let timeouts = scene.number("SELECT count(*) FROM hitl_decisions WHERE cause = 'timeout'")?;
    ensure!(timeouts == scene.count, "{timeouts} decisions with cause timeout, not {}", scene.count);
    let hasty = scene.number(
        "SELECT count(*) FROM hitl_decisions d JOIN hitl_requests r USING (request_id) WHERE d.decided_at < r.respond_by",
    )?;
    ensure!(hasty == 0, "{hasty} were expired early");
    let left = scene.number("SELECT count(*) FROM hitl_requests WHERE status = 'pending'")?;
    ensure!(left == EARLY, "{left} of {EARLY} requests whose time is not over are pending");

    let bulk = bulk_update(scene)?;
    take_all(&mut crowd, due).await;
    settle(scene, &mut crowd.0[0]).await?;
    let events = decided_events(scene, due).await?;
    ensure!(events == scene.count, "{events} `decided` events, not {}", scene.count);
    let (rate, bulk) = (per_second(scene.count, took), per_second(scene.count, bulk));
    enough(busy as u64, 2, "sweeps that found something")?;
    judge(scene).await?.verdict(&format!(
        "{timeouts} expired once by {busy} of {SWEEPS} sweeps, 0 early, {events} events; {rate:.0} requests/s, one bulk \
         UPDATE of the same rows {bulk:.0}/s (1:{:.1})",
        bulk / rate
    ))
}

/// One sweep, however long it takes: a scheduler waits for minutes, unlike the clients of other calls.
async fn whole_sweep(scene: &Scene<'_>, service: &Service) -> Result<Value> {
    let mut connection = Connection::open(service.address()).await?;
    let request = connection.request(Method::POST, "/internal/timeout-sweep", &scene.admin.token);
    let answer = timeout(PATIENCE, connection.send(request, Bytes::new())).await.context("a sweep did not end")??;
    answer.expect(StatusCode::OK)?;
    answer.json()
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// How long one UPDATE takes that writes the columns that a timeout writes, for the same rows.
fn bulk_update(scene: &Scene<'_>) -> Result<Duration> {
    let timed = |statement: &str| {
        let begun = Instant::now();
        scene.sql(statement).map(|_| begun.elapsed())
    };
    let nothing = timed("SELECT 1")?;
    let update = timed(
        "UPDATE hitl_requests SET status = status, changed_at = changed_at, chain_length = chain_length,
            chain_head = chain_head WHERE status = 'decided'",
    )?;
    Ok(update.saturating_sub(nothing))
}
