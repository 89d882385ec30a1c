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

/// How much slower an empty poll may be.
const BOUND: f64 = 2.0;
/// How many more blocks it may look at in the short form: rows of the last seconds may be among them. Looking at all dead
/// rows would be more than 400 times as many.
const BLOCKS_BOUND: f64 = 10.0;
/// The polls are counted in so many parts, and the one in the middle tells: where autovacuum comes by, Postgres may plan
/// the statement anew for a table that it takes to be empty, and some polls look at all rows until it knows better.
const PARTS: usize = 10;
/// A lease that is over and the rows of the last seconds are looked at, however many rows there are: see `floors.rs`.
/// Their number follows the agent's rate; what must not count is how many handoffs there have been.
const LEASE_SECONDS: &str = "5";
/// Lease, first backoff and margin.
const LOOKED_AT: Duration = Duration::from_secs(5 + 1 + 6);
const BLOCKS: &str = "SELECT sum(shared_blks_hit + shared_blks_read) / sum(calls) FROM pg_stat_statements s
    JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database() AND query LIKE '/* relaytrace: lease */%'";
const RESET: &str =
    "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)";

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[("LEASE_SECONDS", LEASE_SECONDS)]).await?;
    let agents = scene.agents(&service, 2).await?;
    let mut client = scene.client(&service);
    scene.sql("CREATE EXTENSION pg_stat_statements")?;
    let first = measure(scene, &mut client, &agents[0]).await?;
    let second = measure(scene, &mut client, &agents[0]).await?;
    let before = if first.p99 < second.p99 { first } else { second };

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
    sleep(LOOKED_AT).await;
    let (after, control) = (measure(scene, &mut client, busy).await?, measure(scene, &mut client, &control).await?);
    ensure!(scene.number(is_idle)? > 0, "the idle transaction did not stay open");
    drop(statements);
    idle.wait()?;
    let (slower, against_control) = (after.p99 / before.p99, after.p99 / control.p99);
    let did = format!(
        "{} handoffs of one agent in {took} s, {dead} dead rows pinned; p99 of its empty polls {:.2} ms before and {:.2} ms \
         after ({slower:.2}x; {against_control:.2}x that of an agent without rows), {:.0} and {:.0} blocks each",
        scene.count, before.p99, after.p99, before.blocks, after.blocks
    );
    // Other drills run beside a short one: times say little then, and what a poll looks at says all.
    ensure!(!scene.is_short || after.blocks <= BLOCKS_BOUND * before.blocks, "{did}: above {BLOCKS_BOUND}x");
    ensure!(scene.is_short || slower.min(against_control) <= BOUND, "{did}: above {BOUND}x");
    judge(scene).await?.verdict(&did)
}

/// The cost of an empty poll.
struct Cost {
    /// Milliseconds.
    p99: f64,
    /// Blocks that Postgres looks at, on average in the middle one of the parts.
    blocks: f64,
}

async fn measure(scene: &Scene<'_>, client: &mut Client, agent: &Agent) -> Result<Cost> {
    let polls = if scene.is_short { 200 } else { 2_000 };
    let mut times = Histogram::<u64>::new(3)?;
    client.poll(agent, 0, 1).await.context("a poll was not answered")?;
    let mut blocks = Vec::with_capacity(PARTS);
    for _ in 0..PARTS {
        scene.sql(RESET)?;
        for _ in 0..polls / PARTS {
            let begun = Instant::now();
            let found = client.poll(agent, 0, 1).await.context("a poll was not answered")?;
            ensure!(found.is_empty(), "a poll found a decision where there is none");
            times.record(u64::try_from(begun.elapsed().as_nanos())?)?;
        }
        blocks.push(scene.sql(BLOCKS)?.trim().parse::<f64>()?);
    }
    blocks.sort_by(f64::total_cmp);
    let p99 = Duration::from_nanos(times.value_at_quantile(0.99)).as_secs_f64() * 1e3;
    Ok(Cost { p99, blocks: blocks[PARTS / 2] })
}
