//! Load: agents that submit, poll and acknowledge, operators that decide, a scheduler that sweeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client::{Client, Delivery};
use super::history::{History, Record};
use super::scene::Scene;
use super::service::Service;
use super::uses::{Used, fresh_key};
use crate::agent::Agent;

/// Requests that wait for an operator at the most: submitting stops until there are fewer.
const BACKLOG: usize = 64;
/// A client waits so long after a call that got no answer.
const PAUSE: Duration = Duration::from_millis(25);
/// The scheduler's period.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Load on a service until it is finished.
pub struct Load {
    agents: Arc<Vec<Agent>>,
    history: Arc<History>,
    submitting: Arc<AtomicBool>,
    running: Arc<AtomicBool>,
    submitted: Arc<AtomicU64>,
    people: JoinSet<()>,
    pollers: JoinSet<()>,
    scheduler: JoinSet<()>,
}

impl Load {
    /// Starts to make load: each agent has `width` submitters and pollers, and there are as many operators.
    pub fn start(scene: &Scene<'_>, service: &Service, agents: Vec<Agent>, width: usize) -> Self {
        let mut load = Self {
            agents: Arc::new(agents),
            history: scene.history.clone(),
            submitting: Arc::new(AtomicBool::new(true)),
            running: Arc::new(AtomicBool::new(true)),
            submitted: Arc::default(),
            people: JoinSet::new(),
            pollers: JoinSet::new(),
            scheduler: JoinSet::new(),
        };
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let receiver = Arc::new(Mutex::new(receiver));
        for worker in 0..load.agents.len() * width {
            load.spawn_submitter(scene, service, worker, sender.clone());
            load.spawn_operator(scene, service, worker, receiver.clone());
            load.spawn_poller(scene, service, worker);
        }
        load.spawn_scheduler(scene, service);
        load
    }

    fn spawn_submitter(
        &mut self,
        scene: &Scene<'_>,
        service: &Service,
        worker: usize,
        asked: mpsc::Sender<(usize, String)>,
    ) {
        let (agents, submitting, submitted) = (self.agents.clone(), self.submitting.clone(), self.submitted.clone());
        let mut client = scene.client(service);
        let index = worker % self.agents.len();
        self.people.spawn(async move {
            let mut number = 0;
            while submitting.load(Ordering::Relaxed) {
                number += 1;
                let request_id = client.submit_until_answered(&agents[index], &format!("key-{worker}-{number}")).await;
                submitted.fetch_add(1, Ordering::Relaxed);
                if asked.send((index, request_id)).await.is_err() {
                    return;
                }
            }
        });
    }

    fn spawn_operator(
        &mut self,
        scene: &Scene<'_>,
        service: &Service,
        worker: usize,
        asked: Arc<Mutex<mpsc::Receiver<(usize, String)>>>,
    ) {
        let (agents, history) = (self.agents.clone(), self.history.clone());
        let operator = scene.operators[worker % scene.operators.len()].clone();
        let mut client = scene.client(service);
        self.people.spawn(async move {
            for number in 0_u64.. {
                let next = asked.lock().await.recv().await;
                let Some((of, request_id)) = next else { return };
                client.decide_until_answered(&operator, &request_id, !number.is_multiple_of(3)).await;
                history.expect_delivery(&agents[of].id, &request_id);
            }
        });
    }

    fn spawn_poller(&mut self, scene: &Scene<'_>, service: &Service, worker: usize) {
        let (agents, history, running) = (self.agents.clone(), self.history.clone(), self.running.clone());
        let mut client = scene.client(service);
        self.pollers.spawn(async move {
            let agent = &agents[worker % agents.len()];
            let mut taken = 0_u64;
            while running.load(Ordering::Relaxed) || history.outstanding(&agent.id) > 0 {
                let Some(deliveries) = client.poll(agent, 1, 20).await else {
                    sleep(PAUSE).await;
                    continue;
                };
                for delivery in deliveries {
                    taken += 1;
                    if delivery.outcome == "approved" && taken.is_multiple_of(3) {
                        run(&mut client, agent, &delivery).await;
                        continue;
                    }
                    // Now and then an agent cannot use it yet.
                    let result = if taken.is_multiple_of(50) { "retry" } else { "accepted" };
                    client.acknowledge_until_answered(agent, &delivery, result).await;
                }
            }
        });
    }

    fn spawn_scheduler(&mut self, scene: &Scene<'_>, service: &Service) {
        let (admin, mut client) = (scene.admin.clone(), scene.client(service));
        self.scheduler.spawn(async move {
            loop {
                client.sweep(&admin).await;
                sleep(SWEEP_EVERY).await;
            }
        });
    }

    /// The agents that it was started with.
    pub fn agents(&self) -> Arc<Vec<Agent>> {
        self.agents.clone()
    }

    /// Submissions that were answered so far.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed)
    }

    /// Waits until so many more submissions were answered; fails after `longest`.
    pub async fn wait_for_more(&self, more: u64, longest: Duration) -> Result<()> {
        let enough = self.submitted() + more;
        let begun = Instant::now();
        while self.submitted() < enough {
            ensure!(begun.elapsed() < longest, "{more} submissions were not answered within {longest:?}");
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Stops submitting, lets everything be decided and acknowledged, and the outbox become empty. What has not
    /// happened after `patience` is for the judge to find.
    pub async fn finish(mut self, scene: &Scene<'_>, patience: Duration) -> Result<()> {
        self.submitting.store(false, Ordering::Relaxed);
        let history = self.history.clone();
        let give_up = |what: &str| history.violation("stuck", format!("{what} did not end within {patience:?}"));
        if timeout(patience, async { while self.people.join_next().await.is_some() {} }).await.is_err() {
            give_up("submitting and deciding");
        }
        self.running.store(false, Ordering::Relaxed);
        if timeout(patience, async { while self.pollers.join_next().await.is_some() {} }).await.is_err() {
            give_up("polling and acknowledging");
        }
        wait_for_events(scene, patience).await
    }
}

/// Uses an approval and reports it. Where another poller has used it meanwhile, that one reports.
async fn run(client: &mut Client, agent: &Agent, delivery: &Delivery) {
    let Delivery { request_id, action_digest, .. } = delivery;
    let used = client.consume_until_answered(agent, request_id, &fresh_key(), action_digest).await;
    if matches!(used, Used::Yes { .. }) {
        client.report_until_answered(agent, request_id, "succeeded").await;
    }
}

/// Waits until the outbox is empty, at most `patience`; somebody else sweeps.
pub async fn wait_for_events(scene: &Scene<'_>, patience: Duration) -> Result<()> {
    let begun = Instant::now();
    while scene.number("SELECT count(*) FROM outbox")? > 0 {
        if begun.elapsed() > patience {
            let left = scene.number("SELECT count(*) FROM outbox")?;
            scene.history.violation("stuck", format!("{left} events are in the outbox after {patience:?}"));
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Calls that got no answer that counts.
pub fn lost_calls(history: &History) -> u64 {
    history.count(|record| matches!(record, Record::Lost { .. }))
}

/// Calls that were answered with 503.
pub fn unavailable(history: &History) -> u64 {
    history.count(|record| matches!(record, Record::Refused { status: 503, .. }))
}
