//! NATS's store wiped under a running service, and rebuilt by replay.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::json;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::drill::client::{Caller, Client, text};
use crate::drill::judge::judge;
use crate::drill::load::{Load, wait_for_events};
use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::{Verdict, enough, stream};

const PATIENCE: Duration = Duration::from_mins(2);

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let begin = now(scene)?;
    make_handoffs(scene, &service).await?;
    let middle = now(scene)?;
    make_handoffs(scene, &service).await?;
    let end = now(scene)?;

    block_in_place(|| {
        scene.nats.stop()?;
        scene.nats.wipe()?;
        scene.nats.start_again()
    })?;

    let mut client = scene.client(&service);
    replay(scene, &mut client, &middle, &end).await?;
    let asked_for = events_between(scene, &middle, &end)?;
    let on_stream: HashSet<String> = stream::read(&scene.nats.url()).await?.into_keys().collect();
    let missing = asked_for.difference(&on_stream).count();
    let others = on_stream.difference(&asked_for).count();
    let did = format!("the wiped stream got {} events of the period asked for", asked_for.len());
    ensure!(missing == 0 && others == 0, "{did}: {missing} are missing, {others} others are there");

    replay(scene, &mut client, &begin, &middle).await?;
    let findings = judge(scene).await?;
    let twice = findings.repeated;
    let did = format!("{did}, then the rest, {twice} twice");
    ensure!(twice == 0, "{did}");
    let verdict = findings.verdict(&did)?;
    enough(asked_for.len() as u64, scene.count, "events of the period")?;
    Ok(verdict)
}

async fn make_handoffs(scene: &Scene<'_>, service: &Service) -> Result<()> {
    let agents = scene.agents(service, 4).await?;
    let load = Load::start(scene, service, agents, 1);
    load.wait_for_more(scene.count / 2, PATIENCE).await?;
    load.finish(scene, PATIENCE).await
}

/// The database's time, as the contract writes it.
fn now(scene: &Scene<'_>) -> Result<String> {
    scene.sql("SELECT rfc3339(clock_timestamp())")
}

fn events_between(scene: &Scene<'_>, from: &str, to: &str) -> Result<HashSet<String>> {
    let ids = scene.sql(&format!(
        "SELECT request_id || '/' || seq FROM approval_chain
        WHERE kind NOT IN ('extended', 'reprioritised') AND at >= '{from}' AND at < '{to}'"
    ))?;
    Ok(ids.lines().map(str::to_owned).collect())
}

/// Orders a replay of events and sees it through.
async fn replay(scene: &Scene<'_>, client: &mut Client, from: &str, to: &str) -> Result<()> {
    let order = json!({
        "replay_key": format!("drill-{from}"), "target": "events", "scope": {"from": from, "to": to},
        "reason": "the stream was wiped", "dry_run": false,
    });
    let admin = Caller::Person(&scene.admin);
    let ordered = client.must(admin, Method::POST, "/v1/admin/replay", Some(&order), 202).await?;
    let path = format!("/v1/admin/replays/{}", text(&ordered, "replay_id"));
    let begun = Instant::now();
    loop {
        let replay = client.must(admin, Method::GET, &path, None, 200).await?;
        if replay["state"] == "finished" {
            break;
        }
        ensure!(begun.elapsed() < PATIENCE, "the replay did not end: {replay}");
        client.sweep(&scene.admin).await.context("a sweep failed")?;
    }
    // What the first attempt could not publish is the sweep's.
    while scene.number("SELECT count(*) FROM outbox")? > 0 && begun.elapsed() < PATIENCE {
        client.sweep(&scene.admin).await.context("a sweep failed")?;
        sleep(Duration::from_millis(200)).await;
    }
    wait_for_events(scene, Duration::from_secs(1)).await
}
