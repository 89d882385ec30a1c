//! What several drills do with many clients: act at the same moment, submit, take everything, come to rest.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::PATIENCE;
use super::client::{Acknowledged, Caller, Client, PAUSE};
use super::scene::Scene;
use super::service::Service;
use crate::agent::Agent;

/// Clients that act at the same moment.
pub struct Crowd(pub Vec<Client>);

impl Crowd {
    /// So many, each with a connection of its own.
    pub fn new(scene: &Scene<'_>, service: &Service, size: usize) -> Self {
        Self((0..size).map(|_| scene.client(service)).collect())
    }

    /// Everyone acts; what came of it, in order.
    pub async fn at_once<T>(&mut self, act: impl AsyncFn(usize, &mut Client) -> T) -> Vec<T> {
        join_all(self.0.iter_mut().enumerate().map(|(index, client)| act(index, client))).await
    }
}

/// Submits an envelope of this key until it is answered, and decides nothing.
pub async fn submit_all(crowd: &mut Crowd, agent: &Agent, count: u64, prefix: &str) -> Vec<String> {
    let each = usize::try_from(count).unwrap_or_default().div_ceil(crowd.0.len());
    let ids = crowd
        .at_once(async |index, client| {
            let mut ids = Vec::with_capacity(each);
            let mine = (index * each..(index + 1) * each).filter(|number| (*number as u64) < count);
            for number in mine {
                ids.push(client.submit_until_answered(agent, &format!("{prefix}-{number}")).await);
            }
            ids
        })
        .await;
    ids.concat()
}

/// Polls and acknowledges until nothing is left for this agent. How many there were.
pub async fn take_all(crowd: &mut Crowd, agent: &Agent) -> u64 {
    let taken = crowd
        .at_once(async |_, client| {
            let mut taken = 0;
            while let Some(deliveries) = client.poll(agent, 0, 100).await.filter(|found| !found.is_empty()) {
                for delivery in deliveries {
                    // A machine that other work keeps busy may answer 503: an acknowledgement may be repeated.
                    let said = loop {
                        match client.acknowledge(agent, &delivery, "accepted").await {
                            Acknowledged::Unknown => sleep(PAUSE).await,
                            said => break said,
                        }
                    };
                    taken += u64::from(said == Acknowledged::State("acknowledged".to_owned()));
                }
            }
            taken
        })
        .await;
    taken.into_iter().sum()
}

/// Sweeps, as a scheduler does, until every event is out.
pub async fn settle(scene: &Scene<'_>, client: &mut Client) -> Result<()> {
    let begun = Instant::now();
    while scene.number("SELECT count(*) FROM outbox")? > 0 {
        ensure!(begun.elapsed() < PATIENCE, "events are still in the outbox after {PATIENCE:?}");
        client.sweep(&scene.admin).await;
        sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

/// Sets the time of an agent's P2 requests.
pub async fn set_policy(scene: &Scene<'_>, client: &mut Client, agent: &Agent, seconds: u64) -> Result<Value> {
    let policy = json!({"agent_id": agent.id, "priority": "P2", "respond_within_seconds": seconds});
    client.must(Caller::Person(&scene.admin), Method::PUT, "/v1/admin/timeout-policies", Some(&policy), 200).await
}
