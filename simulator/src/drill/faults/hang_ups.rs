//! Callers that hang up between request and answer.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use hyper::Method;
use rand::RngExt as _;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::agent::Agent;
use crate::drill::client::{Caller, Client, Delivery, envelope, text};
use crate::drill::judge::judge;
use crate::drill::load::wait_for_events;
use crate::drill::scene::{Person, Scene};
use crate::drill::service::Service;
use crate::drill::{PATIENCE, Verdict, enough};

/// Handoffs at the same time, each of an agent of its own.
const WIDTH: usize = 8;
/// Longest pause between a request and the end of its connection: an answer takes about as long.
const LONGEST_PAUSE: u64 = 12;
/// Callers that begin to poll and hang up, for each handoff.
const FLEETING_POLLS: usize = 3;
/// Sessions of a service's pool: the default of `DATABASE_MAX_CONNECTIONS`.
const POOL: u64 = 16;
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = 'relaytrace_service'";

/// What a handoff came to.
#[derive(Clone, Copy, Default)]
struct Done {
    /// The decision was made though its operator hung up.
    decided_without_answer: u64,
    /// From the decision to the agent that was polling, in milliseconds, at the most.
    learned_after: i64,
}

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[("LEASE_SECONDS", "1")]).await?;
    let agents = scene.agents(&service, WIDTH).await?;
    // A poll that is not woken looks again after 5 s, and other drills run beside a short one.
    let within = Duration::from_secs(if scene.is_short { 3 } else { 1 });
    let each = scene.count.div_ceil(WIDTH as u64);
    let (scene, service) = (&*scene, &service);
    let mut sessions = 0;
    let handoffs = try_join_all(agents.iter().enumerate().map(|(index, agent)| async move {
        let mut all = Done::default();
        for number in 0..each {
            let done = hand_over(scene, service, agent, &scene.operators[index], number, within).await?;
            all.decided_without_answer += done.decided_without_answer;
            all.learned_after = all.learned_after.max(done.learned_after);
        }
        anyhow::Ok(all)
    }));
    let all = tokio::select! {
        all = handoffs => all?,
        watched = watch_sessions(scene, &mut sessions) => match watched? {},
    };
    let mut sweeper = scene.client(service);
    sweeper.sweep(&scene.admin).await;
    wait_for_events(scene, PATIENCE).await?;
    let decided: u64 = all.iter().map(|done| done.decided_without_answer).sum();
    let learned = all.iter().map(|done| done.learned_after).max().unwrap_or_default();
    let did = format!(
        "{} handoffs whose callers hang up, {decided} decided by operators who hung up; agents learn after {learned} ms at \
         the most; {sessions} sessions at the most",
        each * WIDTH as u64
    );
    let verdict = judge(scene).await?.verdict(&did)?;
    ensure!(learned <= i64::try_from(within.as_millis())?, "{did}: later than {within:?}");
    ensure!(sessions <= 2 * POOL, "{did}: more than twice the pool's {POOL}");
    enough(decided, scene.count / 10, "decisions by operators who hung up")?;
    Ok(verdict)
}

/// Counts the service's sessions, until it is dropped.
async fn watch_sessions(scene: &Scene<'_>, most: &mut u64) -> Result<Infallible> {
    loop {
        *most = (*most).max(scene.number(SESSIONS)?);
        sleep(Duration::from_millis(50)).await;
    }
}

/// One handoff. Each call is cut off once at a random moment, and then repeated as a client repeats it.
async fn hand_over(
    scene: &Scene<'_>,
    service: &Service,
    agent: &Agent,
    operator: &Person,
    number: u64,
    within: Duration,
) -> Result<Done> {
    let mut client = scene.client(service);
    let key = format!("hung-up-{number}");
    let asking = envelope(&agent.id, &key);
    hang_up(async { scene.client(service).submit(agent, &key, &asking).await }).await;
    let request_id = client.submit_until_answered(agent, &key).await;

    let poll = format!("/v1/agents/{}/decisions/poll?wait_seconds=20&request_id={request_id}", agent.id);
    let mut poller = scene.client(service);
    let learning = poller.call(Caller::Agent(agent), Method::GET, &poll, None);
    let deciding = async {
        // The poll is there before the decision.
        sleep(Duration::from_millis(30)).await;
        let path = format!("/v1/hitl/requests/{request_id}/decision");
        let body = json!({"decision": "approve"});
        hang_up(async { scene.client(service).call(Caller::Person(operator), Method::POST, &path, Some(&body)).await })
            .await;
    };
    tokio::pin!(learning);
    let (early, ()) = tokio::join!(timeout(within + Duration::from_millis(200), &mut learning), deciding);
    let is_decided = early.is_ok() || scene.number(&decisions_of(&request_id))? > 0;
    let told = if let Ok(told) = early {
        told
    } else {
        client.decide_until_answered(operator, &request_id, true).await;
        learning.await
    };
    let told = told.context("a poll was not answered")?.body;
    let mut done = Done { decided_without_answer: u64::from(is_decided), learned_after: 0 };
    let delivery = match told["decisions"].get(0) {
        Some(decision) => {
            let decided_at: DateTime<Utc> = text(decision, "decided_at").parse()?;
            done.learned_after = (now() - decided_at).num_milliseconds();
            Delivery::of(decision)
        }
        None => next_delivery(&mut client, agent).await,
    };
    // Leases that nobody takes, on agents with nothing due.
    for _ in 0..FLEETING_POLLS {
        let fleeting = format!("/v1/agents/{}/decisions/poll?wait_seconds=20", agent.id);
        hang_up(async { scene.client(service).call(Caller::Agent(agent), Method::GET, &fleeting, None).await }).await;
    }
    hang_up(async { scene.client(service).acknowledge(agent, &delivery, "accepted").await }).await;
    acknowledge(&mut client, agent, delivery).await;
    Ok(done)
}

fn decisions_of(request_id: &str) -> String {
    format!("SELECT count(*) FROM hitl_decisions WHERE request_id = '{request_id}'")
}

/// Polls until something is due.
pub(super) async fn next_delivery(client: &mut Client, agent: &Agent) -> Delivery {
    loop {
        if let Some(delivery) = client.poll(agent, 5, 1).await.unwrap_or_default().pop() {
            return delivery;
        }
    }
}

/// Acknowledges until it is taken, of a later delivery where this one's lease is over.
pub(super) async fn acknowledge(client: &mut Client, agent: &Agent, mut delivery: Delivery) {
    use crate::drill::client::Acknowledged;
    loop {
        match client.acknowledge(agent, &delivery, "accepted").await {
            Acknowledged::State(_) => return,
            Acknowledged::Stale => delivery = next_delivery(client, agent).await,
            Acknowledged::Unknown => sleep(Duration::from_millis(25)).await,
        }
    }
}

/// Begins the call and ends its connection at a random moment.
async fn hang_up<T>(call: impl Future<Output = T>) {
    let pause = Duration::from_micros(rand::rng().random_range(0..LONGEST_PAUSE * 1_000));
    drop(timeout(pause, call).await);
}

#[expect(clippy::disallowed_methods, reason = "the service answers in the system's time")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
