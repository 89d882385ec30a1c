//! Keys rotated under load, and a revoked one tried everywhere, also in a process that was frozen meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::agent::Agent;
use crate::drill::client::{Caller, Client, envelope};
use crate::drill::history::{History, Record};
use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::{Verdict, enough};
use crate::http::Connection;

/// A revoked key is dead after it, everywhere.
const DEAD_AFTER: Duration = Duration::from_mins(1);
/// Callers at each process.
const CALLERS: usize = 3;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    // Two processes of one deployment: what one does, the other has to learn.
    let services = [scene.start_service(&[]).await?, scene.start_service(&[]).await?];
    let agent = scene.agents(&services[0], 1).await?.pop().context("an agent")?;
    let mut admin = Connection::open(services[0].address()).await?;
    let (current, _) = watch::channel(Arc::new(agent));
    let running = Arc::new(AtomicBool::new(true));
    // Frozen between calls, as Lambda does it: what is under way is let finish.
    let asleep = Arc::new(AtomicBool::new(false));
    let mut callers = call(scene, &services, &current, &running, &asleep);

    let mut slowest_death = Duration::ZERO;
    for rotation in 1..=scene.count {
        let old = current.borrow().clone();
        let new = old.with_new_key(&mut admin, &scene.admin.token, &format!("{}-{rotation}", old.id)).await?;
        current.send_replace(Arc::new(new));
        let is_last = rotation == scene.count;
        asleep.store(is_last, Ordering::Relaxed);
        // Every call that was begun with the old key has its answer.
        sleep(Duration::from_secs(1)).await;
        if is_last {
            // Both processes know the old key well, and one of them sleeps through its end.
            services[1].freeze()?;
        }
        let path = format!("/v1/admin/agents/{}/keys/{}", old.id, old.key_id);
        let request = admin.request(Method::DELETE, &path, &scene.admin.token);
        admin.send(request, bytes::Bytes::new()).await?.expect(StatusCode::NO_CONTENT)?;
        let revoked = Instant::now();
        slowest_death = slowest_death.max(wait_for_death(scene, &services[0], &old, revoked).await?);
        if is_last {
            let frozen = if scene.is_short { Duration::from_secs(3) } else { DEAD_AFTER + Duration::from_secs(5) };
            sleep(frozen).await;
            services[1].thaw()?;
            asleep.store(false, Ordering::Relaxed);
            let died = wait_for_death(scene, &services[1], &old, Instant::now()).await?;
            ensure!(
                scene.is_short || died < Duration::from_secs(1),
                "the thawed process took the key for {died:?} more"
            );
        }
    }
    running.store(false, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    let history = &scene.history;
    let calls = history.count(|record| matches!(record, Record::Submitted { .. }));
    let failed = history.count(|record| matches!(record, Record::Refused { .. } | Record::Lost { .. }));
    let did = format!(
        "{} rotations under load, {calls} submissions through two processes, {failed} failed, a revoked key dead after {} \
         ms at the most, and at once in a process frozen meanwhile",
        scene.count,
        slowest_death.as_millis()
    );
    let first =
        history.records().into_iter().find(|record| matches!(record, Record::Refused { .. } | Record::Lost { .. }));
    ensure!(failed == 0, "{did} (first: {first:?})");
    let violations = history.count(|record| matches!(record, Record::Violation { .. }));
    ensure!(violations == 0, "{did}, {violations} violations");
    enough(calls, 50 * scene.count, "submissions")?;
    Ok(did)
}

/// Submits through every process with whatever key is current, until told to stop.
fn call(
    scene: &Scene<'_>,
    services: &[Service],
    current: &watch::Sender<Arc<Agent>>,
    running: &Arc<AtomicBool>,
    asleep: &Arc<AtomicBool>,
) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for (process, service) in services.iter().enumerate() {
        for caller in 0..CALLERS {
            let (mut client, current, running) = (scene.client(service), current.subscribe(), running.clone());
            let asleep = asleep.clone();
            callers.spawn(async move {
                for number in 0.. {
                    if !running.load(Ordering::Relaxed) {
                        return;
                    }
                    if process == 1 && asleep.load(Ordering::Relaxed) {
                        sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    let agent = current.borrow().clone();
                    let key = format!("key-{process}-{caller}-{number}");
                    client.submit(&agent, &key, &envelope(&agent.id, &key)).await;
                    sleep(Duration::from_millis(2)).await;
                }
            });
        }
    }
    callers
}

/// Waits until every call with the key is refused, and sees that it stays so. How long it took.
async fn wait_for_death(scene: &Scene<'_>, service: &Service, revoked: &Agent, since: Instant) -> Result<Duration> {
    // Refusals are what is hoped for here: they are in no history.
    let mut client = Client::new(service.address(), Arc::new(History::default()));
    let mut died: Option<Duration> = None;
    let mut probes = 0;
    while probes < 20 || died.is_none() {
        let alive = lives(&mut client, revoked, &format!("{}-{probes}", revoked.key_id)).await?;
        match (alive.first(), died) {
            (Some(call), Some(died)) => {
                scene.history.violation("revoked key", format!("{call} was answered after it was dead for {died:?}"));
            }
            (Some(call), None) => {
                ensure!(since.elapsed() < DEAD_AFTER, "{call} takes a key revoked {DEAD_AFTER:?} ago");
            }
            (None, None) => died = Some(since.elapsed()),
            (None, Some(_)) => {}
        }
        probes += 1;
    }
    Ok(died.unwrap_or_default())
}

/// The calls that take this key.
async fn lives(client: &mut Client, agent: &Agent, key: &str) -> Result<Vec<String>> {
    let id = &agent.id;
    let nowhere = "00000000-0000-7000-8000-000000000000";
    let calls: [(Method, String, Option<Value>); 5] = [
        (Method::POST, "/v1/hitl/requests".to_owned(), Some(envelope(id, key))),
        (Method::GET, format!("/v1/agents/{id}/decisions/poll"), None),
        (Method::GET, format!("/v1/agents/{id}/requests/{nowhere}"), None),
        (Method::POST, format!("/v1/agents/{id}/requests/{nowhere}/cancel"), Some(json!({}))),
        (
            Method::POST,
            format!("/v1/agents/{id}/decisions/{nowhere}/ack"),
            Some(json!({"delivery_id": nowhere, "result": "accepted"})),
        ),
    ];
    let mut alive = Vec::new();
    for (method, path, body) in calls {
        let reply = client.call(Caller::Agent(agent), method, &path, body.as_ref()).await;
        let status = reply.with_context(|| format!("{path} was not answered"))?.status;
        if status != StatusCode::UNAUTHORIZED {
            alive.push(format!("{path} ({status})"));
        }
    }
    Ok(alive)
}
