//! From a decision to the agent that waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::rows::{Batch, Envelopes};
use super::stack::Stack;
use crate::agent::{Agent, Asked, Nonces};
use crate::http::Connection;

/// A poll counts as parked so long after it was sent; there is no way to see it from outside.
const PARKED_AFTER: Duration = Duration::from_millis(20);
const WARM_UP: usize = 64;

/// Milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub most: f64,
    pub decisions: usize,
    /// Decisions at the same moment.
    pub at_once: usize,
    /// Agents that waited.
    pub agents: usize,
}

/// Decisions one at a time, and many at the same moment.
pub const BURSTS: [usize; 2] = [1, 32];

impl Latency {
    /// The slowest p50 and p99 that will do, in milliseconds.
    pub fn bounds(&self) -> (Option<f64>, f64) {
        if self.at_once == 1 { (Some(1.5), 4.0) } else { (None, 40.0) }
    }

    pub fn is_met(&self) -> bool {
        let (p50, p99) = self.bounds();
        p50.is_none_or(|bound| self.p50 <= bound) && self.p99 <= p99
    }
}

/// An agent that waits.
struct Parked {
    request_id: String,
    since: Instant,
    /// When it has the whole answer.
    delivered: oneshot::Receiver<Instant>,
}

/// Decides so many requests at once, waits until every agent is parked again, and decides the next. The time runs from
/// before the operator's call is sent until the agent has the whole answer of its poll.
pub async fn measure(
    stack: &Stack,
    agents: &Arc<Vec<Agent>>,
    batch: Batch,
    decisions: usize,
    at_once: usize,
) -> Result<Latency> {
    let (queue, mut parked) = mpsc::unbounded_channel();
    let mut waiting = JoinSet::new();
    for number in 0..agents.len() {
        let connection = Connection::open(stack.address).await?;
        let waiter = Waiter { connection, agents: agents.clone(), number, batch, nonces: Nonces::new(number) };
        waiting.spawn(waiter.wait_for_ever(queue.clone()));
    }
    drop(queue);
    let mut operators = Vec::new();
    for number in 0..at_once {
        let token = stack.operators[number % stack.operators.len()].clone();
        operators.push((Connection::open(stack.address).await?, token));
    }
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut line = VecDeque::with_capacity(agents.len());
    for round in 0..(decisions + WARM_UP).div_ceil(at_once) {
        while line.len() < agents.len() {
            tokio::select! {
                next = parked.recv() => line.push_back(next.context("the agents have stopped")?),
                // None of them ends unless something is wrong.
                ended = waiting.join_next() => ended.context("no agent waits")???,
            }
        }
        let last = line.back().map(|parked: &Parked| parked.since).context("nobody is parked")?;
        sleep_until((last + PARKED_AFTER).into()).await;
        let decided = line.drain(..at_once).zip(&mut operators).map(|(parked, operator)| parked.decide(operator));
        for took in try_join_all(decided).await? {
            if round * at_once >= WARM_UP {
                histogram.record(u64::try_from(took.as_micros())?)?;
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "microseconds")]
    let milliseconds = |microseconds: u64| microseconds as f64 / 1_000.0;
    Ok(Latency {
        p50: milliseconds(histogram.value_at_quantile(0.5)),
        p99: milliseconds(histogram.value_at_quantile(0.99)),
        most: milliseconds(histogram.max()),
        decisions: usize::try_from(histogram.len())?,
        at_once,
        agents: agents.len(),
    })
}

impl Parked {
    /// How long its decision takes to reach the agent.
    async fn decide(self, (operator, token): &mut (Connection, HeaderValue)) -> Result<Duration> {
        let begun = Instant::now();
        let path = format!("/v1/hitl/requests/{}/decision", self.request_id);
        operator.post(&path, token, &json!({"decision": "approve"})).await?.expect(StatusCode::CREATED)?;
        Ok(self.delivered.await.context("an agent has stopped")? - begun)
    }
}

struct Waiter {
    connection: Connection,
    agents: Arc<Vec<Agent>>,
    number: usize,
    batch: Batch,
    nonces: Nonces,
}

impl Waiter {
    /// Asks, waits for the answer, acknowledges it, and asks again.
    async fn wait_for_ever(mut self, queue: mpsc::UnboundedSender<Parked>) -> Result<()> {
        let envelopes = Envelopes::new();
        for round in 0_u64.. {
            let agent_id = self.agent().id.clone();
            let key = self.batch.client_request_key((round << 8) + self.number as u64);
            let asked = self.call(Method::POST, "/v1/hitl/requests", envelopes.of(&agent_id, &key)).await?;
            let request_id =
                asked["request_id"].as_str().context("a submission's answer has no request_id")?.to_owned();

            let (sender, delivered) = oneshot::channel();
            if queue.send(Parked { request_id: request_id.clone(), since: Instant::now(), delivered }).is_err() {
                return Ok(());
            }
            let path = format!("/v1/agents/{agent_id}/decisions/poll?wait_seconds=20&limit=1");
            let (decision, at) = loop {
                let polled = self.call(Method::GET, &path, String::new()).await?;
                let at = Instant::now();
                if let Some(decision) = polled["decisions"].get(0) {
                    break (decision.clone(), at);
                }
            };
            ensure!(decision["request_id"] == request_id.as_str(), "an agent got another request's decision");
            let _ = sender.send(at);
            let body = json!({"delivery_id": decision["delivery_id"], "result": "accepted"});
            let path = format!("/v1/agents/{agent_id}/decisions/{request_id}/ack");
            self.call(Method::POST, &path, body.to_string()).await?;
        }
        Ok(())
    }

    fn agent(&self) -> &Agent {
        &self.agents[self.number]
    }

    /// A call whose answer's signature is checked.
    async fn call(&mut self, method: Method, path: &str, body: String) -> Result<Value> {
        let nonce: HeaderValue = self.nonces.next();
        let request = self.connection.request(method.clone(), path, self.agent().token());
        let request = request.header("relaytrace-nonce", nonce.clone());
        let body = Bytes::from(body);
        let answer = self.connection.send(request, body.clone()).await?;
        let said = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status.is_success(), "{method} {path}: the service answered {}: {said}", answer.status);
        let asked = Asked { method: &method, path, body: &body, nonce: nonce.to_str()? };
        self.agent().verify(&answer, &asked)?;
        answer.json()
    }
}
