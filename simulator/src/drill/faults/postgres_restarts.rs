//! Postgres stopped with `-m immediate` and started again, under load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::RngExt as _;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::drill::judge::judge;
use crate::drill::load::{Load, unavailable};
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough};

/// No call takes longer, whatever Postgres does.
const SLOWEST: Duration = Duration::from_secs(2);
/// From Postgres's return to the next submission that is stored.
const SERVING_AGAIN: Duration = Duration::from_secs(10);

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[("LEASE_SECONDS", "1")]).await?;
    let agents = scene.agents(&service, 4).await?;
    let load = Load::start(scene, &service, agents, 1);
    load.wait_for_more(20, Duration::from_secs(30)).await?;
    scene.history.take_slowest();
    let mut back = Duration::ZERO;
    for _ in 0..scene.count {
        let (up, down) = (rand::rng().random_range(0..500), rand::rng().random_range(200..1_500));
        sleep(Duration::from_millis(up)).await;
        block_in_place(|| scene.postgres.stop_immediate())?;
        sleep(Duration::from_millis(down)).await;
        block_in_place(|| scene.postgres.start_again())?;
        let begun = Instant::now();
        load.wait_for_more(1, SERVING_AGAIN).await.context("the service does not serve again")?;
        back = back.max(begun.elapsed());
    }
    let slowest = scene.history.take_slowest();
    load.finish(scene, Duration::from_mins(2)).await?;
    let refused = unavailable(&scene.history);
    let did = format!(
        "{} immediate stops, {refused} calls answered 503 with Retry-After, slowest call {} ms, serving again after {} \
         ms at the most",
        scene.count,
        slowest.as_millis(),
        back.as_millis()
    );
    let findings = judge(scene).await?;
    let verdict = findings.verdict(&did)?;
    ensure!(slowest <= SLOWEST, "{did}: a call waited longer than {SLOWEST:?}");
    enough(refused, scene.count, "calls answered 503")?;
    enough(findings.submitted, 3 * scene.count, "submissions")?;
    Ok(verdict)
}
