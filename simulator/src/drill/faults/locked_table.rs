//! A lock on one table, as a careless migration takes it, under pollers that wait.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::agent::Agent;
use crate::drill::client::{Caller, Client};
use crate::drill::judge::judge;
use crate::drill::load::{unavailable, wait_for_events};
use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::{PATIENCE, Verdict, enough};

const POLLERS: usize = 30;
/// Sessions of a service's pool: the default of `DATABASE_MAX_CONNECTIONS`.
const POOL: u64 = 16;
/// Requests that an operator tries to decide while the table is locked.
const DECISIONS: usize = 6;
/// From the release to the first whole handoff.
const WELL_AGAIN: Duration = Duration::from_secs(5);
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = 'relaytrace_service'";

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let scene = &*scene;
    let service = scene.start_service(&[("LEASE_SECONDS", "1")]).await?;
    let agents = Arc::new(scene.agents(&service, 4).await?);
    let mut client = scene.client(&service);
    let mut asked = Vec::new();
    for number in 0..DECISIONS {
        asked.push(client.submit_until_answered(&agents[0], &format!("before-{number}")).await);
    }
    let running = Arc::new(AtomicBool::new(true));
    let (mut pollers, polled) = poll(scene, &service, &agents, &running);

    let mut locking = scene.postgres.open_psql(&scene.database)?;
    let mut statements = locking.stdin.take().context("psql has no input")?;
    statements.write_all(b"BEGIN; LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE;\n")?;
    statements.flush()?;
    let locked =
        "SELECT count(*) FROM pg_locks WHERE relation = 'deliveries'::regclass AND mode = 'AccessExclusiveLock'
        AND granted";
    while scene.number(locked)? == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    let (mut sessions, mut served) = (0, 0);
    let mut refused = Vec::new();
    let until = Instant::now() + Duration::from_secs(scene.count);
    while Instant::now() < until {
        served += other_tables(&mut client, scene, &agents[1], served).await?;
        if let Some(request_id) = asked.pop() {
            if client.decide(&scene.operators[0], &request_id, true).await {
                scene.history.violation("decided through a lock", request_id);
            } else {
                refused.push(request_id);
            }
        }
        sessions = sessions.max(scene.number(SESSIONS)?);
        sleep(Duration::from_millis(100)).await;
    }
    statements.write_all(b"COMMIT;\n")?;
    drop(statements);
    locking.wait()?;
    let released = Instant::now();
    let (before, request_id) =
        (polled.load(Ordering::Relaxed), client.submit_until_answered(&agents[2], "after").await);
    client.decide_until_answered(&scene.operators[0], &request_id, true).await;
    while polled.load(Ordering::Relaxed) < before + POLLERS as u64 / 2 {
        ensure!(
            released.elapsed() < 4 * WELL_AGAIN,
            "polls are not answered {:?} after the release",
            released.elapsed()
        );
        sleep(Duration::from_millis(10)).await;
    }
    let well_again = released.elapsed();

    // What was refused is not done later.
    sleep(WELL_AGAIN.saturating_sub(well_again)).await;
    let done_later = scene
        .number(&format!("SELECT count(*) FROM hitl_decisions WHERE request_id IN ('{}')", refused.join("', '")))?;
    for request_id in &refused {
        client.decide_until_answered(&scene.operators[1], request_id, false).await;
    }
    finish(scene, &mut client, &running, &mut pollers).await?;
    let did = format!(
        "{} s of a lock on deliveries under {POLLERS} pollers: {sessions} sessions at the most, {served} calls of other \
         tables served, {} answered 503, well {} ms after the release",
        scene.count,
        unavailable(&scene.history),
        well_again.as_millis()
    );
    let verdict = judge(scene).await?.verdict(&did)?;
    ensure!(done_later == 0, "{did}: {done_later} decisions that were answered 503 were made later");
    ensure!(sessions <= 2 * POOL, "{did}: more than twice the pool's {POOL}");
    ensure!(well_again <= WELL_AGAIN, "{did}: later than {WELL_AGAIN:?}");
    enough(unavailable(&scene.history), POLLERS as u64, "calls answered 503")?;
    enough(served, scene.count, "calls of other tables")?;
    Ok(verdict)
}

/// Polls and accepts, until told to stop; and how many polls were answered.
fn poll(
    scene: &Scene<'_>,
    service: &Service,
    agents: &Arc<Vec<Agent>>,
    running: &Arc<AtomicBool>,
) -> (JoinSet<()>, Arc<AtomicU64>) {
    let (mut pollers, polled) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
    for number in 0..POLLERS {
        let (agents, running, polled) = (agents.clone(), running.clone(), polled.clone());
        let mut client = scene.client(service);
        pollers.spawn(async move {
            let agent = &agents[number % agents.len()];
            while running.load(Ordering::Relaxed) {
                let Some(deliveries) = client.poll(agent, 1, 10).await else {
                    // As Retry-After says.
                    sleep(Duration::from_secs(1)).await;
                    continue;
                };
                polled.fetch_add(1, Ordering::Relaxed);
                for delivery in deliveries {
                    client.acknowledge_until_answered(agent, &delivery, "accepted").await;
                }
            }
        });
    }
    (pollers, polled)
}

/// Calls that need no row of the locked table. Each must be served.
async fn other_tables(client: &mut Client, scene: &Scene<'_>, agent: &Agent, number: u64) -> Result<u64> {
    let admin = Caller::Person(&scene.admin);
    client.must(admin, Method::GET, "/v1/admin/agents", None, 200).await?;
    client.must(admin, Method::GET, "/v1/admin/timeout-policies", None, 200).await?;
    let key = format!("meanwhile-{number}");
    let envelope = crate::drill::client::envelope(&agent.id, &key);
    client.submit(agent, &key, &envelope).await.context("a submission was not served beside the lock")?;
    Ok(3)
}

/// Decides what is left, and lets everything be delivered.
async fn finish(
    scene: &Scene<'_>,
    client: &mut Client,
    running: &Arc<AtomicBool>,
    pollers: &mut JoinSet<()>,
) -> Result<()> {
    for request_id in scene.sql("SELECT request_id FROM hitl_requests WHERE status = 'pending'")?.lines() {
        client.decide_until_answered(&scene.operators[1], request_id, false).await;
    }
    let begun = Instant::now();
    while scene.number("SELECT count(*) FROM deliveries WHERE state IN ('ready', 'leased')")? > 0 {
        if begun.elapsed() > PATIENCE {
            scene.history.violation("stuck", "deliveries do not end");
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    running.store(false, Ordering::Relaxed);
    while pollers.join_next().await.is_some() {}
    client.sweep(&scene.admin).await;
    wait_for_events(scene, PATIENCE).await
}
