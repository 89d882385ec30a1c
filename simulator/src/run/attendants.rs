//! Attendants: the scheduler that sweeps each second, and an operator's page that shows the queue.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::ledger::{Sweep, now};
use super::world::World;

/// As the local stack and the operator page do.
const EVERY: Duration = Duration::from_secs(1);

/// Sweeps for ever.
pub async fn sweep(world: Arc<World>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        sweep_once(&world).await;
    }
}

/// One sweep. Whether it was answered.
pub async fn sweep_once(world: &World) -> bool {
    let began = now();
    let answered = world.target.call(&world.target.admin, Method::POST, "/internal/timeout-sweep", None).await;
    let ended = now();
    let is_done = answered.is_ok_and(|reply| reply.status == StatusCode::OK);
    if is_done {
        world.ledger.open().sweeps.push(Sweep { began, ended });
    }
    is_done
}

/// Looks at the queue for ever, as an open page does, and writes its depth down.
pub async fn watch(world: Arc<World>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let token = &world.target.operators[0].token;
        let Ok(reply) = world.target.call(token, Method::GET, "/v1/hitl/requests?limit=50", None).await else {
            continue;
        };
        if let Some(pending) = pending(&reply.body) {
            let second = world.ledger.begun().elapsed().as_secs();
            world.ledger.open().depths.push((second, pending));
        }
    }
}

/// How much waits for a person, whoever asked.
fn pending(queue: &Value) -> Option<u64> {
    queue["counts"]["pending"].as_u64()
}
