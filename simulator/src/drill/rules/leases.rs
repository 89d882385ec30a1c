//! Pollers that are stopped past their lease.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tokio::time::sleep;

use crate::agent::Agent;
use crate::drill::client::{Acknowledged, Client, Delivery};
use crate::drill::crowd::settle;
use crate::drill::judge::judge;
use crate::drill::scene::{Person, Scene};
use crate::drill::{PATIENCE, Verdict};

/// Agents, each with a poller that stops and one that goes on.
const AGENTS: usize = 10;
/// Length of a lease, in seconds.
const LEASE: u64 = 1;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[("LEASE_SECONDS", &LEASE.to_string())]).await?;
    let agents = scene.agents(&service, AGENTS).await?;
    let each = scene.count.div_ceil(AGENTS as u64);
    let stages = agents.iter().map(|agent| {
        let clients = [scene.client(&service), scene.client(&service)];
        one_agent(agent, &scene.operators[0], clients, each)
    });
    let refused: u64 = try_join_all(stages).await?.into_iter().sum();
    settle(scene, &mut scene.client(&service)).await?;
    let once = scene.number("SELECT count(*) FROM deliveries WHERE attempt = 2 AND state = 'acknowledged'")?;
    let all = each * AGENTS as u64;
    ensure!(once == all, "{once} of {all} decisions were redelivered once and then acknowledged");
    judge(scene).await?.verdict(&format!("{refused} late acknowledgements refused, {once} redelivered once"))
}

/// One poller takes everything and stops; the other gets it after the lease; then the first acknowledges.
async fn one_agent(agent: &Agent, operator: &Person, clients: [Client; 2], count: u64) -> Result<u64> {
    let [mut stopped, mut other] = clients;
    for number in 0..count {
        let request_id = stopped.submit_until_answered(agent, &format!("key-{number}")).await;
        stopped.decide_until_answered(operator, &request_id, true).await;
    }
    let mut held: HashMap<String, Delivery> = HashMap::new();
    let begun = Instant::now();
    while (held.len() as u64) < count {
        ensure!(begun.elapsed() < PATIENCE, "{} of {count} decisions came", held.len());
        for delivery in stopped.poll(agent, 1, 100).await.unwrap_or_default() {
            held.insert(delivery.request_id.clone(), delivery);
        }
    }
    sleep(Duration::from_secs(LEASE)).await;
    let mut refused = 0;
    while !held.is_empty() {
        ensure!(begun.elapsed() < PATIENCE, "{} decisions were not delivered again", held.len());
        // Few at a time: the second poller is to be in time itself.
        for delivery in other.poll(agent, 5, 5).await.unwrap_or_default() {
            let Some(late) = held.remove(&delivery.request_id) else { continue };
            ensure!(delivery.attempt == late.attempt + 1, "attempt {} after {}", delivery.attempt, late.attempt);
            let said = stopped.acknowledge(agent, &late, "accepted").await;
            ensure!(said == Acknowledged::Stale, "a late acknowledgement was answered with {said:?}");
            refused += 1;
            other.acknowledge_until_answered(agent, &delivery, "accepted").await;
        }
    }
    Ok(refused)
}
