//! Processes frozen right after their response, as Lambda does, with their event left in the outbox.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::StatusCode;
use tokio::time::sleep;

use crate::agent::Agent;
use crate::drill::client::{envelope, text};
use crate::drill::history::Record;
use crate::drill::judge::judge;
use crate::drill::lambda::Environment;
use crate::drill::proxy::Proxy;
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough};

/// Whoever wrote an event has so long to publish it; then it is a sweep's.
const LEFT_OVER_AFTER: Duration = Duration::from_millis(10_500);
/// The next request after the thaw is answered within it: one dead connection found, another made.
const NEXT_REQUEST: Duration = Duration::from_secs(3);

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let frozen_for = if scene.is_short { LEFT_OVER_AFTER } else { Duration::from_mins(1) };
    let nats = Proxy::to(scene.nats.port()).await?;
    let stream = format!("nats://127.0.0.1:{}", nats.port());
    let scheduler = scene.start_service(&[]).await?;
    let agent = scene.agents(&scheduler, 1).await?.pop().context("an agent")?;
    let mut environments = Vec::new();
    for number in 0..scene.count {
        let variables = [("NATS_URL", stream.as_str())];
        environments.push(Environment::start(scene, "ingest", &variables, usize::try_from(number)?).await?);
    }

    submit(scene, &mut environments, &agent, "warm").await?;
    let published = scene.count - scene.number("SELECT count(*) FROM outbox")?;

    // The stream does not answer while they respond, so that their events stay where they are.
    nats.swallow();
    submit(scene, &mut environments, &agent, "frozen").await?;
    let begun = Instant::now();
    let left_over = scene.number("SELECT count(*) FROM outbox")?;
    nats.forward();
    // Meanwhile their connections are hung up on, as whatever lies between does with silent ones.
    scene.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'relaytrace_service'")?;
    sleep(frozen_for.saturating_sub(begun.elapsed())).await;

    let swept = scene.client(&scheduler).sweep(&scene.admin).await;
    let swept = swept.context("the sweep failed")?;
    let left = scene.number("SELECT count(*) FROM outbox")?;
    let slowest = submit(scene, &mut environments, &agent, "thawed").await?;
    sleep(LEFT_OVER_AFTER).await;
    scene.client(&scheduler).sweep(&scene.admin).await.context("the sweep failed")?;

    let did = format!(
        "{} processes frozen for {:.0} s after their response, {published} events out before the first one, {left_over} \
         left over, one sweep left {left} of them; the next request took {} ms at the most",
        scene.count,
        frozen_for.as_secs_f64(),
        slowest.as_millis()
    );
    ensure!(published == scene.count && left == 0, "{did} (the sweep: {swept})");
    ensure!(slowest <= NEXT_REQUEST, "{did}");
    enough(left_over, scene.count, "events left over")?;
    judge(scene).await?.verdict(&did)
}

/// Submits through each environment, once; each has to take it. How long the slowest took.
async fn submit(scene: &Scene<'_>, environments: &mut [Environment], agent: &Agent, when: &str) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for (number, environment) in environments.iter_mut().enumerate() {
        let (agent_id, client_request_key) = (agent.id.clone(), format!("{when}-{number}"));
        let body = envelope(&agent_id, &client_request_key);
        let (of, key) = (agent_id.clone(), client_request_key.clone());
        scene.history.add(Record::Sent { agent_id: of, client_request_key: key });
        let begun = Instant::now();
        let answer = environment.post(agent, "/v1/hitl/requests", &body).await?;
        slowest = slowest.max(begun.elapsed());
        answer.expect(StatusCode::CREATED).with_context(|| format!("submission {client_request_key}"))?;
        let said = answer.json()?;
        scene.history.add(Record::Submitted {
            agent_id,
            client_request_key,
            request_id: text(&said, "request_id"),
            action_digest: text(&said, "action_digest"),
            duplicate: false,
        });
    }
    Ok(slowest)
}
