//! Everything at once: every kind of call and of administration by 12 clients, with kills in between.

mod calls;
mod rest;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::sleep;

use crate::agent::Agent;
use crate::drill::client::{Client, Delivery};
use crate::drill::judge::judge;
use crate::drill::load::{lost_calls, unavailable};
use crate::drill::scene::{Person, Scene};
use crate::drill::service::Service;
use crate::drill::{Verdict, enough};

const CLIENTS: u64 = 12;
const AGENTS: usize = 4;
/// Requests that the clients still act upon: the newest.
const KNOWN: usize = 200;
/// Between two kills, at the least and at the most.
const BETWEEN_KILLS: std::ops::Range<u64> = 2_000..5_000;

/// A request that the clients know.
#[derive(Clone, Debug)]
struct Known {
    agent: usize,
    client_request_key: String,
    envelope: Value,
    request_id: String,
}

/// What the clients share.
struct Board {
    agents: Vec<RwLock<Arc<Agent>>>,
    operators: Vec<Person>,
    admin: Person,
    known: Mutex<Vec<Known>>,
    /// Deliveries that were said something of: they may be said something else of, too.
    said: Mutex<Vec<(usize, Delivery)>>,
}

impl Board {
    fn agent(&self, index: usize) -> Arc<Agent> {
        self.agents[index].read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, known: Known) {
        keep_newest(&self.known, known);
    }

    fn pick<T: Clone>(of: &Mutex<Vec<T>>, rng: &mut StdRng) -> Option<T> {
        let of = of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.is_empty() { None } else { Some(of[rng.random_range(0..of.len())].clone()) }
    }
}

fn keep_newest<T>(of: &Mutex<Vec<T>>, one: T) {
    let mut of = of.lock().unwrap_or_else(PoisonError::into_inner);
    if of.len() == KNOWN {
        of.remove(0);
    }
    of.push(one);
}

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    // Short leases: what was handed to nobody is handed out again soon.
    let mut service = scene.start_service(&[("LEASE_SECONDS", "1")]).await?;
    let agents = scene.agents(&service, AGENTS).await?;
    let board = Arc::new(Board {
        agents: agents.into_iter().map(|agent| RwLock::new(Arc::new(agent))).collect(),
        operators: scene.operators.clone(),
        admin: scene.admin.clone(),
        known: Mutex::default(),
        said: Mutex::default(),
    });
    let running = Arc::new(AtomicBool::new(true));
    let seed: u64 = rand::random();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let caller = calls::Mixer::new(client(scene, &service), board.clone(), seed, number);
        clients.spawn(caller.call_while(running.clone()));
    }
    let mut scheduler = sweep(scene, &service);

    let kills = kill(scene, &mut service).await?;
    running.store(false, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    rest::judge_counters(scene, "with requests pending")?;
    let mut client = client(scene, &service);
    rest::bring(scene, &mut client, &board).await?;
    scheduler.abort_all();

    let calls = calls::summary(&scene.history);
    let did = format!(
        "{} s of everything at once (seed {seed}), {kills} kills, {} calls cut off, {} answered 503; {calls}",
        scene.count,
        lost_calls(&scene.history),
        unavailable(&scene.history)
    );
    let stuck = rest::stuck(scene)?;
    let findings = judge(scene).await?;
    let verdict = findings.verdict(&did)?;
    ensure!(stuck.is_empty(), "{did}: {}", stuck.join("; "));
    rest::judge_counters(scene, "with nothing pending")?;
    enough(findings.submitted, 5 * scene.count, "submissions")?;
    enough(kills, 1, "kills")?;
    Ok(verdict)
}

/// A client for which no refusal is a violation that another client's calls can explain.
fn client(scene: &Scene<'_>, service: &Service) -> Client {
    scene.client(service).excusing(|status, code| {
        // 401: the key was rotated away between the choice of it and the call.
        matches!((status, code), (401 | 409, _) | (429, "rate-limited") | (503, "unavailable"))
    })
}

fn sweep(scene: &Scene<'_>, service: &Service) -> JoinSet<()> {
    let (admin, mut client) = (scene.admin.clone(), scene.client(service));
    let mut scheduler = JoinSet::new();
    scheduler.spawn(async move {
        loop {
            client.sweep(&admin).await;
            sleep(Duration::from_secs(1)).await;
        }
    });
    scheduler
}

/// Kills the service and Postgres by turns until the drill's time is over. How often.
async fn kill(scene: &mut Scene<'_>, service: &mut Service) -> Result<u64> {
    let until = Instant::now() + Duration::from_secs(scene.count);
    for kills in 0.. {
        let pause = Duration::from_millis(rand::rng().random_range(BETWEEN_KILLS));
        let left = until.saturating_duration_since(Instant::now());
        sleep(pause.min(left)).await;
        if left <= pause {
            return Ok(kills);
        }
        if kills % 2 == 0 {
            service.kill()?;
            service.start().await?;
        } else {
            block_in_place(|| scene.postgres.stop_immediate())?;
            sleep(Duration::from_millis(rand::rng().random_range(50..500))).await;
            block_in_place(|| scene.postgres.start_again())?;
        }
    }
    Ok(0)
}
