//! Polls that name a request, beside few and beside many decisions that are due for their agent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::task::JoinSet;

use super::floor::Side;
use super::rows::{Batch, ROWS_AT_ONCE};
use super::stack::Stack;
use crate::agent::Agent;
use crate::http::Connection;

/// Decisions that are due for one agent and for the other.
pub const DUE: [u64; 2] = [100, 16_000];
const CONNECTIONS: u64 = 32;
const WARM_UP: Duration = Duration::from_secs(1);
/// Of the rate beside few, at the least, beside many.
pub const BOUND: f64 = 0.9;

/// Polls per second of each run, beside few and beside many.
pub type Rates = [f64; 2];

/// An agent with decisions that are due, and requests of it that are pending.
pub struct Named {
    agent: Arc<Vec<Agent>>,
    pending: Batch,
}

impl Named {
    /// Prepares the rows of an agent, the only one of its group.
    pub async fn prepare(side: &Side<'_>, agent: Arc<Vec<Agent>>, batches: [Batch; 2], due: u64) -> Result<Self> {
        let [decided, pending] = batches;
        let made = due.next_multiple_of(ROWS_AT_ONCE);
        side.prepare_decided(decided, 0..made).await?;
        side.make_ready(decided).await?;
        let (first, last) = (decided.request_id(due), decided.request_id(made));
        let too_many = format!("request_id >= '{first}' AND request_id < '{last}'");
        side.database.psql(&format!("UPDATE deliveries SET state = 'acknowledged' WHERE {too_many}")).await?;
        let ready = format!("SELECT count(*) FROM deliveries WHERE {} AND state = 'ready'", decided.condition());
        ensure!(side.database.count(&ready).await? == due, "not so many deliveries are due as there should be");
        side.prepare_pending(pending, 0..ROWS_AT_ONCE).await?;
        Ok(Self { agent, pending })
    }

    /// Polls per second, each for one pending request: nothing is taken, so that all stays as it is.
    pub async fn measure(&self, stack: &Stack, measured: Duration) -> Result<f64> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + measured;
        let mut callers = JoinSet::new();
        for number in 0..CONNECTIONS {
            let (agent, pending) = (self.agent.clone(), self.pending);
            let mut connection = Connection::open(stack.address).await?;
            callers.spawn(async move {
                let mut calls = 0_u32;
                for turn in 0.. {
                    let now = Instant::now();
                    if now >= end {
                        break;
                    }
                    let request_id = pending.request_id((turn * CONNECTIONS + number) % ROWS_AT_ONCE);
                    let path = format!("/v1/agents/{}/decisions/poll?request_id={request_id}", agent[0].id);
                    let request = connection.request(Method::GET, &path, agent[0].token());
                    let answer = connection.send(request, Bytes::new()).await?;
                    answer.expect(StatusCode::OK)?;
                    ensure!(answer.json()?["decisions"] == serde_json::json!([]), "a pending request was delivered");
                    calls += u32::from(now >= begin);
                }
                anyhow::Ok(calls)
            });
        }
        let mut calls = 0;
        while let Some(done) = callers.join_next().await {
            calls += done??;
        }
        Ok(f64::from(calls) / measured.as_secs_f64())
    }
}
