//! Load over HTTP: so many connections, each with one call after the other.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::http::request;
use hyper::{Method, StatusCode};
use memchr::memmem;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::cpu::{Usage, usage};
use super::kind::Kind;
use super::rows::{Batch, DIGEST_HEX, Envelopes};
use crate::agent::{Agent, Asked, Nonces};
use crate::http::{Answer, Connection};

/// Of so many answers one is looked at closely: signature and content.
pub const SAMPLE: u64 = 100;
const NONCE: &str = "relaytrace-nonce";

/// The options of a measurement.
#[derive(Clone)]
pub struct Load {
    pub kind: Kind,
    pub address: SocketAddr,
    /// The process whose CPU time counts as the stack's.
    pub stack: u32,
    pub connections: usize,
    /// The batch's group of agents.
    pub agents: Arc<Vec<Agent>>,
    pub operators: Vec<HeaderValue>,
    pub batch: Batch,
    /// Rows that were prepared.
    pub rows: u64,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// The measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    pub per_second: f64,
    /// Calls while measuring.
    pub calls: u64,
    /// The prepared rows did not last.
    pub ran_out: bool,
    /// Answers whose signature and content were looked at.
    pub verified: u64,
    pub usage: Option<Usage>,
}

/// Decides prepared requests through the service, as operators do: what a poll is to bring needs the decider's attestation,
/// which no statement can make up.
pub async fn decide(address: SocketAddr, operators: &[HeaderValue], batch: Batch, rows: Range<u64>) -> Result<()> {
    const CONNECTIONS: u64 = 32;
    let mut connections = JoinSet::new();
    for number in 0..CONNECTIONS {
        let operator = operators[usize::try_from(number)? % operators.len()].clone();
        let mine = (rows.start + number..rows.end).step_by(usize::try_from(CONNECTIONS)?);
        connections.spawn(async move {
            let mut connection = Connection::open(address).await?;
            for row in mine {
                let (path, body) = decision(batch, row);
                let request = connection.request(Method::POST, &path, &operator);
                connection.send(request, body.into()).await?.expect(StatusCode::CREATED)?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = connections.join_next().await {
        done?.context("while deciding what is to be polled")?;
    }
    Ok(())
}

/// Path and body of an operator's approval.
fn decision(batch: Batch, row: u64) -> (String, String) {
    let body = format!(r#"{{"decision":"approve","action_digest":"sha256:{DIGEST_HEX}"}}"#);
    (format!("/v1/hitl/requests/{}/decision", batch.request_id(row)), body)
}

/// The counts of one connection.
#[derive(Default)]
struct Done {
    calls: u64,
    ran_out: bool,
    verified: u64,
}

/// Makes the load. Any answer that is not what it should be ends it.
pub async fn run(load: Load) -> Result<Measured> {
    let load = Arc::new(load);
    let mut open = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        open.push(Connection::open(load.address).await?);
    }
    let begin = Instant::now() + load.warm_up;
    let end = begin + load.measured;
    let mut connections = JoinSet::new();
    for (number, connection) in open.into_iter().enumerate() {
        let load = load.clone();
        connections.spawn(async move { Caller::new(&load, connection, number).call_until(begin, end).await });
    }
    let used = || usage(load.stack, std::process::id());
    sleep_until(begin.into()).await;
    let before = used();
    sleep_until(end.into()).await;
    let after = used();

    let mut measured =
        Measured { usage: before.zip(after).map(|(before, after)| after - before), ..Measured::default() };
    while let Some(done) = connections.join_next().await {
        let done = done??;
        measured.calls += done.calls;
        measured.verified += done.verified;
        measured.ran_out |= done.ran_out;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
    let calls = measured.calls as f64;
    measured.per_second = calls / load.measured.as_secs_f64();
    Ok(measured)
}

struct Caller<'a> {
    load: &'a Load,
    connection: Connection,
    /// Number of the connection.
    number: usize,
    nonces: Nonces,
    envelopes: Envelopes,
}

/// A call that is ready to be sent.
struct Call<'a> {
    method: Method,
    path: String,
    request: request::Builder,
    body: Bytes,
    /// The agent of a signed answer, and the nonce that it must cover.
    signed_for: Option<(&'a Agent, HeaderValue)>,
}

impl<'a> Caller<'a> {
    fn new(load: &'a Load, connection: Connection, number: usize) -> Self {
        Self { load, connection, number, nonces: Nonces::new(number), envelopes: Envelopes::new() }
    }

    async fn call_until(&mut self, begin: Instant, end: Instant) -> Result<Done> {
        let mut done = Done::default();
        for turn in 0.. {
            if Instant::now() >= end {
                break;
            }
            let row = turn * self.load.connections as u64 + self.number as u64;
            if self.has_rows() && row >= self.load.rows {
                done.ran_out = true;
                break;
            }
            let Call { method, path, request, body, signed_for } = self.prepare(row)?;
            let answer = self.connection.send(request, body.clone()).await?;
            let is_looked_at = turn % SAMPLE == 0;
            let found = self.judge(&answer, is_looked_at).with_context(|| self.load.kind.name())?;
            if !found {
                done.ran_out = true;
                break;
            }
            if is_looked_at {
                if let Some((agent, nonce)) = signed_for {
                    let asked = Asked { method: &method, path: &path, body: &body, nonce: nonce.to_str()? };
                    agent.verify(&answer, &asked)?;
                }
                done.verified += 1;
            }
            if (begin..end).contains(&Instant::now()) {
                done.calls += 1;
            }
        }
        Ok(done)
    }

    /// Whether each call takes a prepared row that no other may take.
    fn has_rows(&self) -> bool {
        matches!(self.load.kind, Kind::Decide | Kind::Acknowledge)
    }

    fn prepare(&mut self, row: u64) -> Result<Call<'a>> {
        let Load { kind, batch, agents, operators, .. } = self.load;
        let index = usize::try_from(row)?;
        let (method, path, body) = match kind {
            Kind::Submit => {
                let body = self.envelopes.of(&agents[index % agents.len()].id, &batch.client_request_key(row));
                (Method::POST, "/v1/hitl/requests".to_owned(), body)
            }
            Kind::Decide => {
                let (path, body) = decision(*batch, row);
                (Method::POST, path, body)
            }
            Kind::Poll | Kind::EmptyPoll => {
                let agent_id = &agents[index % agents.len()].id;
                (Method::GET, format!("/v1/agents/{agent_id}/decisions/poll?limit=1"), String::new())
            }
            Kind::Acknowledge => {
                let (agent_id, id) = (&agents[index % agents.len()].id, batch.request_id(row));
                let body = format!(r#"{{"delivery_id":"{id}","result":"accepted"}}"#);
                (Method::POST, format!("/v1/agents/{agent_id}/decisions/{id}/ack"), body)
            }
        };
        let body = Bytes::from(body);
        if *kind == Kind::Decide {
            let token = &operators[self.number % operators.len()];
            let request = self.connection.request(method.clone(), &path, token);
            return Ok(Call { method, path, request, body, signed_for: None });
        }
        let (agent, nonce) = (&agents[index % agents.len()], self.nonces.next());
        let request = self.connection.request(method.clone(), &path, agent.token()).header(NONCE, nonce.clone());
        Ok(Call { method, path, request, body, signed_for: Some((agent, nonce)) })
    }

    /// Checks the answer; `false` where a poll found nothing though it should have.
    fn judge(&self, answer: &Answer, closely: bool) -> Result<bool> {
        let (status, member, value) = match self.load.kind {
            Kind::Submit => (StatusCode::CREATED, "status", "pending"),
            Kind::Decide => (StatusCode::CREATED, "outcome", "approved"),
            Kind::Acknowledge => (StatusCode::OK, "state", "acknowledged"),
            Kind::Poll | Kind::EmptyPoll => {
                answer.expect(StatusCode::OK)?;
                return self.judge_poll(answer, closely);
            }
        };
        answer.expect(status)?;
        if closely {
            let said = answer.json()?;
            ensure!(said[member] == value, "the answer's {member} is {}, not {value}", said[member]);
        }
        Ok(true)
    }

    fn judge_poll(&self, answer: &Answer, closely: bool) -> Result<bool> {
        let is_found = memmem::find(&answer.body, b"\"delivery_id\"").is_some();
        if self.load.kind == Kind::EmptyPoll && is_found {
            bail!("a poll found a decision where there is none");
        }
        if closely {
            let said = answer.json()?;
            let decisions = said["decisions"].as_array().context("a poll's answer has no decisions")?;
            ensure!(decisions.len() == usize::from(is_found), "a poll for one brought {}", decisions.len());
            ensure!(decisions.iter().all(|one| one["receipt"].is_string()), "a decision came without receipt");
        }
        Ok(is_found || self.load.kind == Kind::EmptyPoll)
    }
}
