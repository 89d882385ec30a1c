//! A connection whose packets are dropped, not refused: first Postgres's, then NATS's.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use crate::drill::judge::judge;
use crate::drill::load::{Load, unavailable};
use crate::drill::proxy::Proxy;
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough};

/// A handler's deadline, and what a busy machine may add.
const DEADLINE: Duration = Duration::from_millis(2_000 + 500);
/// Serving again after the packets go through again.
const SERVING_AGAIN: Duration = Duration::from_secs(10);

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let (postgres, nats) = (Proxy::to(scene.postgres.port()).await?, Proxy::to(scene.nats.port()).await?);
    let database = scene.environment.get("DATABASE_URL").context("no DATABASE_URL")?;
    let database = database.replacen(&scene.postgres.port().to_string(), &postgres.port().to_string(), 1);
    let stream = format!("nats://127.0.0.1:{}", nats.port());
    let variables = [("DATABASE_URL", database.as_str()), ("NATS_URL", &stream), ("LEASE_SECONDS", "1")];
    let service = scene.start_service(&variables).await?;
    let agents = scene.agents(&service, 4).await?;
    let load = Load::start(scene, &service, agents, 1);
    load.wait_for_more(20, Duration::from_secs(30)).await?;

    let (without_postgres, _) = swallow(scene, &load, &postgres).await?;
    let refused = unavailable(&scene.history);
    let (without_nats, submitted) = swallow(scene, &load, &nats).await?;
    load.finish(scene, Duration::from_mins(2)).await?;

    let did = format!(
        "{} s each; Postgres gone: {refused} calls answered 503, slowest {} ms; NATS gone: {submitted} submitted, \
         slowest {} ms",
        scene.count,
        without_postgres.as_millis(),
        without_nats.as_millis()
    );
    let findings = judge(scene).await?;
    let verdict = findings.verdict(&did)?;
    ensure!(without_postgres.max(without_nats) <= DEADLINE, "{did}: beyond {DEADLINE:?}");
    enough(refused, scene.count / 2, "calls answered 503")?;
    enough(submitted, 5 * scene.count, "submissions while NATS was gone")?;
    Ok(verdict)
}

/// Swallows for the drill's time. The slowest call meanwhile, and how many submissions were answered.
async fn swallow(scene: &Scene<'_>, load: &Load, proxy: &Proxy) -> Result<(Duration, u64)> {
    scene.history.take_slowest();
    let before = load.submitted();
    proxy.swallow();
    sleep(Duration::from_secs(scene.count)).await;
    let submitted = load.submitted() - before;
    proxy.forward();
    load.wait_for_more(1, SERVING_AGAIN).await.context("the service does not serve again")?;
    Ok((scene.history.take_slowest(), submitted))
}
