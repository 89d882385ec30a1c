//! NATS away for minutes under load.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::drill::history::Record;
use crate::drill::judge::judge;
use crate::drill::load::Load;
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough};

/// The backlog is to be out so soon after NATS is back.
const CATCH_UP: Duration = Duration::from_mins(1);
/// No call takes longer meanwhile: a busy machine's time to answer, no waiting for NATS.
const SLOWEST: Duration = Duration::from_secs(2);
/// Calls of each kind that have to go on in each second.
const LEAST: u64 = 5;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 4).await?;
    let load = Load::start(scene, &service, agents, 1);
    load.wait_for_more(20, Duration::from_secs(30)).await?;

    block_in_place(|| scene.nats.kill())?;
    scene.history.take_slowest();
    let before = done(scene);
    sleep(Duration::from_secs(scene.count)).await;
    let after = done(scene);
    let slowest = scene.history.take_slowest();
    let backlog = scene.number("SELECT count(*) FROM outbox")?;

    block_in_place(|| scene.nats.start_again())?;
    let begun = Instant::now();
    // Those of the outage; the load goes on.
    let returned = scene.sql("SELECT now()")?;
    let of_outage = format!("SELECT count(*) FROM outbox WHERE created_at < '{returned}'");
    while scene.number(&of_outage)? > 0 && begun.elapsed() < CATCH_UP {
        sleep(Duration::from_millis(200)).await;
    }
    let (left, caught_up) = (scene.number(&of_outage)?, begun.elapsed());
    load.finish(scene, CATCH_UP).await?;

    let [submitted, decided, delivered] = [0, 1, 2].map(|kind: usize| after[kind] - before[kind]);
    let did = format!(
        "{} s without NATS, meanwhile {submitted} submitted, {decided} decided, {delivered} acknowledged, slowest call \
         {} ms; {backlog} events out {:.1} s after its return",
        scene.count,
        slowest.as_millis(),
        caught_up.as_secs_f64()
    );
    ensure!(left == 0, "{did}: {left} events are still in the outbox");
    ensure!(slowest <= SLOWEST, "{did}: a call waited");
    let findings = judge(scene).await?;
    let verdict = findings.verdict(&did)?;
    for (count, what) in [(submitted, "submissions"), (decided, "decisions"), (delivered, "acknowledgements")] {
        enough(count, LEAST * scene.count, what)?;
    }
    enough(backlog, LEAST * scene.count, "events of the outage")?;
    Ok(verdict)
}

fn done(scene: &Scene<'_>) -> [u64; 3] {
    [
        scene.history.count(|record| matches!(record, Record::Submitted { .. })),
        scene.history.count(|record| matches!(record, Record::Decided { .. })),
        scene.history.count(|record| matches!(record, Record::Acknowledged { .. })),
    ]
}
