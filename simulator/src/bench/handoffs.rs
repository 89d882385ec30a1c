//! Whole handoffs: agents that submit, are decided, poll and acknowledge, or consume and report, and begin again at once.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use super::cpu::{Usage, usage};
use super::load::{Load, SAMPLE};
use super::rows::Envelopes;
use super::stack::Stack;
use crate::agent::{Asked, Nonces};
use crate::http::Connection;

/// The measurement.
#[derive(Clone, Copy, Debug)]
pub struct Handoffs {
    pub per_second: f64,
    pub agents: usize,
    /// Milliseconds of CPU for a handoff.
    pub usage: Option<Usage>,
}

/// What an agent does with its decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Acknowledges it.
    Acknowledge,
    /// Uses the permit, which ends the delivery, and reports what became of it.
    Use,
}

/// Every agent of the load hands over in a closed loop: one connection for the agent, one for the operator who decides.
pub async fn measure(stack: &Stack, load: &Load, end_with: End) -> Result<Handoffs> {
    let begin = Instant::now() + load.warm_up;
    let end = begin + load.measured;
    let mut handlers = JoinSet::new();
    for number in 0..load.agents.len() {
        let handler = Handler {
            agent: Connection::open(stack.address).await?,
            operator: Connection::open(stack.address).await?,
            number,
            nonces: Nonces::new(number),
            load: load.clone(),
            end_with,
        };
        handlers.spawn(handler.hand_over(begin, end));
    }
    let used = || usage(load.stack, std::process::id());
    tokio::time::sleep_until(begin.into()).await;
    let before = used();
    tokio::time::sleep_until(end.into()).await;
    let used = before.zip(used()).map(|(before, after)| after - before);
    let mut done = 0_u32;
    while let Some(handed_over) = handlers.join_next().await {
        done += handed_over??;
    }
    let per_second = f64::from(done) / load.measured.as_secs_f64();
    Ok(Handoffs { per_second, agents: load.agents.len(), usage: used.map(|used| used.per_call(f64::from(done))) })
}

struct Handler {
    agent: Connection,
    operator: Connection,
    number: usize,
    nonces: Nonces,
    load: Load,
    end_with: End,
}

impl Handler {
    /// How many handoffs ended between the two.
    async fn hand_over(mut self, begin: Instant, end: Instant) -> Result<u32> {
        let (envelopes, mut done) = (Envelopes::new(), 0);
        let operator = self.load.operators[self.number % self.load.operators.len()].clone();
        let agents = self.load.agents.clone();
        let agent_id = &agents[self.number].id;
        for turn in 0_u64.. {
            if Instant::now() >= end {
                break;
            }
            let is_verified = turn % (SAMPLE / 4) == 0;
            let key = self.load.batch.client_request_key((turn << 8) + self.number as u64);
            let body = envelopes.of(agent_id, &key);
            let asked = self.call(Method::POST, "/v1/hitl/requests", body, is_verified).await?;
            let request_id = asked["request_id"].as_str().context("a submission's answer has no request_id")?;

            let path = format!("/v1/hitl/requests/{request_id}/decision");
            let decide = self.operator.request(Method::POST, &path, &operator);
            let body = Bytes::from_static(br#"{"decision":"approve"}"#);
            self.operator.send(decide, body).await?.expect(StatusCode::CREATED)?;

            let path = format!("/v1/agents/{agent_id}/decisions/poll?wait_seconds=20&limit=1");
            let polled = self.call(Method::GET, &path, String::new(), is_verified).await?;
            let delivery = &polled["decisions"][0];
            ensure!(delivery["request_id"] == request_id, "an agent got another request's decision");

            if self.end_with == End::Use {
                let path = format!("/v1/agents/{agent_id}/requests/{request_id}");
                let body = format!(r#"{{"consume_key":"{key}","action_digest":{}}}"#, delivery["action_digest"]);
                let used = self.call(Method::POST, &format!("{path}/consume"), body, is_verified).await?;
                ensure!(used["repeated"] == false, "a permit was used before");
                let body = r#"{"state":"succeeded"}"#.to_owned();
                self.call(Method::POST, &format!("{path}/outcome"), body, is_verified).await?;
            } else {
                let path = format!("/v1/agents/{agent_id}/decisions/{request_id}/ack");
                let body = format!(r#"{{"delivery_id":{},"result":"accepted"}}"#, delivery["delivery_id"]);
                let acked = self.call(Method::POST, &path, body, is_verified).await?;
                ensure!(acked["state"] == "acknowledged", "an acknowledgement was answered with {}", acked["state"]);
            }
            done += u32::from((begin..end).contains(&Instant::now()));
        }
        Ok(done)
    }

    async fn call(&mut self, method: Method, path: &str, body: String, is_verified: bool) -> Result<Value> {
        let (agent, nonce) = (&self.load.agents[self.number], self.nonces.next());
        let request = self.agent.request(method.clone(), path, agent.token()).header("relaytrace-nonce", nonce.clone());
        let body = Bytes::from(body);
        let answer = self.agent.send(request, body.clone()).await?;
        let said = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status.is_success(), "{method} {path}: the service answered {}: {said}", answer.status);
        if is_verified {
            agent.verify(&answer, &Asked { method: &method, path, body: &body, nonce: nonce.to_str()? })?;
        }
        answer.json()
    }
}
