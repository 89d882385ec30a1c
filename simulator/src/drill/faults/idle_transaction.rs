//! A transaction left idle pins the dead rows of many handoffs: empty polls stay as quick as before.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use tokio::time::sleep;

use crate::agent::Agent;
use crate::drill::Verdict;
use crate::drill::client::Client;
use crate::drill::judge::judge;
use crate::drill::load::Load;
use crate::drill::scene::Scene;

/// Empty polls that are timed.
const POLLS: u64 = 2_000;
/// How much slower an empty poll may be.
const BOUND: f64 = 2.0;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 2).await?;
    let mut client = scene.client(&service);
    let before = [p99(&mut client, &agents[0]).await?, p99(&mut client, &agents[0]).await?];
    let before = before.into_iter().min().unwrap_or_default();

    let mut idle = scene.postgres.open_psql(&scene.database)?;
    let mut statements = idle.stdin.take().context("psql has no input")?;
    statements.write_all(b"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM deliveries;\n")?;
    statements.flush()?;
    let is_idle =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xmin IS NOT NULL";
    while scene.number(is_idle)? == 0 {
        sleep(Duration::from_millis(20)).await;
    }

    let [busy, control]: [Agent; 2] = agents.try_into().ok().context("two agents")?;
    let (busy_id, begun) = (busy.id.clone(), Instant::now());
    let load = Load::start(scene, &service, vec![busy], 8);
    load.wait_for_more(scene.count, Duration::from_mins(10)).await?;
    let agents = load.agents();
    load.finish(scene, Duration::from_mins(1)).await?;
    let took = begun.elapsed().as_secs();
    let dead = scene.number("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'deliveries'")?;

    let busy = agents.iter().find(|agent| agent.id == busy_id).context("the busy agent is gone")?;
    let (busy_after, control_after) = (p99(&mut client, busy).await?, p99(&mut client, &control).await?);
    ensure!(scene.number(is_idle)? > 0, "the idle transaction did not stay open");
    drop(statements);
    idle.wait()?;
    let against = |other: Duration| busy_after.as_secs_f64() / other.as_secs_f64();
    let did = format!(
        "{} handoffs of one agent in {took} s, {dead} dead rows pinned, empty poll p99 {:.2} ms before and {:.2} ms after \
         ({:.2}x), {:.2}x that of an agent without rows",
        scene.count,
        ms(before),
        ms(busy_after),
        against(before),
        against(control_after)
    );
    ensure!(against(control_after) <= BOUND, "{did}: above {BOUND}x");
    // Other drills run beside a short one: what was measured before says little then.
    ensure!(scene.is_short || against(before) <= BOUND, "{did}: above {BOUND}x");
    judge(scene).await?.verdict(&did)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

async fn p99(client: &mut Client, agent: &Agent) -> Result<Duration> {
    let mut times = Histogram::<u64>::new(3)?;
    for _ in 0..POLLS {
        let begun = Instant::now();
        let found = client.poll(agent, 0, 1).await.context("a poll was not answered")?;
        ensure!(found.is_empty(), "a poll found a decision where there is none");
        times.record(u64::try_from(begun.elapsed().as_nanos())?)?;
    }
    Ok(Duration::from_nanos(times.value_at_quantile(0.99)))
}
