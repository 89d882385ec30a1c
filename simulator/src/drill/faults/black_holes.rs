//! A connection whose packets are dropped, not refused: first Postgres's, then NATS's.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::json;
use tokio::time::sleep;

use crate::drill::client::{Caller, Client};
use crate::drill::judge::judge;
use crate::drill::load::{Load, unavailable};
use crate::drill::proxy::Proxy;
use crate::drill::scene::Scene;
use crate::drill::{PATIENCE, Verdict, enough};

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

    let (without_postgres, _) = swallow(scene, &load, &postgres, async { Ok(()) }).await?;
    let refused = unavailable(&scene.history);
    let mut client = scene.client(&service);
    let replaying = replay_everything(scene, &mut client);
    let (without_nats, submitted) = swallow(scene, &load, &nats, replaying).await?;
    let replayed = replay_ends(scene, &mut client).await?;
    load.finish(scene, Duration::from_mins(2)).await?;

    let did = format!(
        "{} s each; Postgres gone: {refused} calls answered 503, slowest {} ms; NATS gone: {submitted} submitted, \
         slowest {} ms, and a replay of {replayed} events ordered, which went out when it was back",
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

/// Swallows for the drill's time, and does this meanwhile. The slowest call meanwhile, and how many submissions were
/// answered.
async fn swallow(
    scene: &Scene<'_>,
    load: &Load,
    proxy: &Proxy,
    meanwhile: impl Future<Output = Result<()>>,
) -> Result<(Duration, u64)> {
    scene.history.take_slowest();
    let before = load.submitted();
    proxy.swallow();
    let (did, ()) = tokio::join!(meanwhile, sleep(Duration::from_secs(scene.count)));
    let submitted = load.submitted() - before;
    proxy.forward();
    did?;
    load.wait_for_more(1, SERVING_AGAIN).await.context("the service does not serve again")?;
    Ok((scene.history.take_slowest(), submitted))
}

const REPLAY: &str = "without-nats";

/// Orders that every event goes out again, while none can: sweeps that are at it must come to their end.
async fn replay_everything(scene: &Scene<'_>, client: &mut Client) -> Result<()> {
    let order = json!({"replay_key": REPLAY, "target": "events", "reason": "The stream does not answer.",
        "scope": {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}});
    let admin = Caller::Person(&scene.admin);
    let reply = client.call(admin, Method::POST, "/v1/admin/replay", Some(&order)).await;
    let reply = reply.context("the order of a replay was not answered")?;
    ensure!(reply.status.is_success(), "a replay was not ordered: {} {}", reply.status, reply.body);
    client.sweep(&scene.admin).await;
    Ok(())
}

/// Waits until the replay is done. How many events it brought.
async fn replay_ends(scene: &Scene<'_>, client: &mut Client) -> Result<u64> {
    let begun = Instant::now();
    loop {
        client.sweep(&scene.admin).await;
        let done = scene.sql(&format!("SELECT state, done FROM replays WHERE replay_key = '{REPLAY}'"))?;
        if let Some(done) = done.trim().strip_prefix("finished|") {
            return done.parse().with_context(|| format!("a replay did {done:?}"));
        }
        ensure!(begun.elapsed() < PATIENCE, "the replay does not end: {done}");
        sleep(Duration::from_millis(100)).await;
    }
}
