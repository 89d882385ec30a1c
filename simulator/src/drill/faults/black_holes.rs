//! A connection whose packets are dropped, not refused: first Postgres's, then NATS's.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::time::sleep;

use crate::drill::client::{Caller, Client};
use crate::drill::judge::judge;
use crate::drill::load::{Load, unavailable};
use crate::drill::proxy::Proxy;
use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::{PATIENCE, Verdict, enough};
use crate::http::Connection;

/// A handler's deadline, and what a busy machine may add beyond what it adds to a call that needs nothing.
const DEADLINE: Duration = Duration::from_millis(2_000 + 500);
/// From one call that needs nothing to the next.
const PAUSE: Duration = Duration::from_millis(10);
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

    let without_postgres = swallow(scene, (&service, &load), &postgres, async { Ok(()) }).await?;
    let refused = unavailable(&scene.history);
    let mut client = scene.client(&service);
    let replaying = replay_everything(scene, &mut client);
    let without_nats = swallow(scene, (&service, &load), &nats, replaying).await?;
    let replayed = replay_ends(scene, &mut client).await?;
    load.finish(scene, Duration::from_mins(2)).await?;

    let did = format!(
        "{} s each; Postgres gone: {refused} calls answered 503, slowest {} ms (needing nothing: {} ms); NATS gone: {} \
         submitted, slowest {} ms (needing nothing: {} ms), and a replay of {replayed} events ordered, which went out when \
         it was back",
        scene.count,
        without_postgres.slowest.as_millis(),
        without_postgres.needing_nothing.as_millis(),
        without_nats.submitted,
        without_nats.slowest.as_millis(),
        without_nats.needing_nothing.as_millis(),
    );
    let findings = judge(scene).await?;
    let verdict = findings.verdict(&did)?;
    for meanwhile in [&without_postgres, &without_nats] {
        ensure!(meanwhile.slowest <= DEADLINE + meanwhile.needing_nothing, "{did}: beyond {DEADLINE:?}");
    }
    enough(refused, scene.count / 2, "calls answered 503")?;
    enough(without_nats.submitted, 5 * scene.count, "submissions while NATS was gone")?;
    Ok(verdict)
}

/// What happened while a proxy swallowed.
struct Meanwhile {
    /// The slowest call.
    slowest: Duration,
    /// The slowest call that needs no server: what the machine adds to any.
    needing_nothing: Duration,
    /// Submissions that were answered.
    submitted: u64,
}

/// Swallows for the drill's time, and does this meanwhile.
async fn swallow(
    scene: &Scene<'_>,
    (service, load): (&Service, &Load),
    proxy: &Proxy,
    meanwhile: impl Future<Output = Result<()>>,
) -> Result<Meanwhile> {
    scene.history.take_slowest();
    let before = load.submitted();
    proxy.swallow();
    let until = Instant::now() + Duration::from_secs(scene.count);
    let (did, needing_nothing) = tokio::join!(meanwhile, call_for_nothing(scene, service, until));
    let submitted = load.submitted() - before;
    proxy.forward();
    did?;
    load.wait_for_more(1, SERVING_AGAIN).await.context("the service does not serve again")?;
    Ok(Meanwhile { slowest: scene.history.take_slowest(), needing_nothing: needing_nothing?, submitted })
}

/// Asks for `/healthz` again and again. The slowest.
async fn call_for_nothing(scene: &Scene<'_>, service: &Service, until: Instant) -> Result<Duration> {
    let (mut connection, mut slowest) = (Connection::open(service.address()).await?, Duration::ZERO);
    while Instant::now() < until {
        let begun = Instant::now();
        let request = connection.request(Method::GET, "/healthz", &scene.admin.token);
        connection.send(request, Bytes::new()).await?.expect(StatusCode::OK)?;
        slowest = slowest.max(begun.elapsed());
        sleep(PAUSE).await;
    }
    Ok(slowest)
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
