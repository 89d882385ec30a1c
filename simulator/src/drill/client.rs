//! A client of the service that survives its faults: it connects again, never waits for ever, verifies every response
//! to an agent, and writes down what it was told.
//!
//! It is not relaytrace-client: that hides what the drills judge. A drill has to see each try by itself: a 503 without
//! `Retry-After`, an answer that hangs, a refusal that no fault excuses, a signature that does not verify.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::digest;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::history::{History, Record};
use super::scene::Person;
use crate::agent::{Agent, Asked, Nonces};
use crate::http::{Answer, Connection};

/// Longest wait for an answer, a poll's own waiting not counted: a call that takes longer hangs.
const HANG: Duration = Duration::from_secs(10);
/// And that of a sweep, which does up to 50 rounds of work.
const SWEEP_HANG: Duration = Duration::from_mins(1);
/// Pause before the same call is sent again.
pub const PAUSE: Duration = Duration::from_millis(25);

/// The caller.
#[derive(Clone, Copy)]
pub enum Caller<'a> {
    /// An agent; the response must be signed for it.
    Agent(&'a Agent),
    /// An operator or administrator.
    Person(&'a Person),
}

/// A response with its status and body.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// Its body; null if that is no JSON.
    pub body: Value,
}

impl Reply {
    /// A member of the body as text, empty if it is none.
    pub fn text(&self, member: &str) -> String {
        text(&self.body, member)
    }
}

/// A member of an object as text, empty if it is none.
pub fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_default().to_owned()
}

fn time(value: &Value, member: &str) -> Option<DateTime<Utc>> {
    value[member].as_str()?.parse().ok()
}

/// A decision that a poll brought.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The decided request.
    pub request_id: String,
    /// The lease.
    pub delivery_id: String,
    /// How often it was handed out.
    pub attempt: u64,
    /// The decision.
    pub outcome: String,
    /// Of the action that was decided.
    pub action_digest: String,
    /// Until when an approval may be used.
    pub permit_expires_at: Option<String>,
    /// From the decision to the end of the lease; `None`: one of the two is no time.
    pub leased_for: Option<TimeDelta>,
}

impl Delivery {
    /// An item of a poll.
    pub fn of(item: &Value) -> Self {
        Self {
            request_id: text(item, "request_id"),
            delivery_id: text(item, "delivery_id"),
            attempt: item["attempt"].as_u64().unwrap_or_default(),
            outcome: text(item, "outcome"),
            action_digest: text(item, "action_digest"),
            permit_expires_at: item["permit"]["expires_at"].as_str().map(str::to_owned),
            leased_for: time(item, "lease_expires_at").zip(time(item, "decided_at")).map(|(end, start)| end - start),
        }
    }

    /// Whether it was leased, for so long, in the very moment in which it was decided.
    pub fn is_born_with_lease_of(&self, lease: Duration) -> bool {
        self.attempt == 1 && self.leased_for.is_some_and(|leased| leased.to_std() == Ok(lease))
    }
}

/// The result of an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The delivery's state after it.
    State(String),
    /// The decision was handed out again since, or its permit was used.
    Stale,
    /// No answer that counts.
    Unknown,
}

/// A client: one call at a time.
pub struct Client {
    address: SocketAddr,
    connection: Option<Connection>,
    nonces: Nonces,
    history: Arc<History>,
    excused: fn(u16, &str) -> bool,
}

/// What a fault may make of any call.
fn is_excused(status: u16, code: &str) -> bool {
    matches!((status, code), (503, "unavailable") | (409, "stale-delivery" | "already-consumed"))
}

impl Client {
    /// Connects with its first call.
    pub fn new(address: SocketAddr, history: Arc<History>) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let nonces = Nonces::new(NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { address, connection: None, nonces, history, excused: is_excused }
    }

    /// The same client, for which these refusals are no violation: status and code.
    pub fn excusing(self, excused: fn(u16, &str) -> bool) -> Self {
        Self { excused, ..self }
    }

    /// The service's.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The history that it writes.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Sends one call. `None`: it got no answer that counts, and whether it had an effect is not known.
    pub async fn call(
        &mut self,
        caller: Caller<'_>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Reply> {
        let call = || format!("{method} {path}");
        let begun = Instant::now();
        let waits = Duration::from_secs(waiting_seconds(path));
        let is_sweep = path.starts_with("/internal/");
        let hang = if is_sweep { SWEEP_HANG } else { HANG + waits };
        let answered = timeout(hang, self.exchange(caller, &method, path, body)).await;
        if !is_sweep {
            self.history.took(begun.elapsed().saturating_sub(waits));
        }
        let error = match answered {
            Ok(Ok(reply)) => return Some(reply),
            Ok(Err(error)) => error,
            Err(_) => {
                self.history.violation("hang", format!("{} was not answered within {hang:?}", call()));
                anyhow!("no answer in time")
            }
        };
        self.connection = None;
        self.history.add(Record::Lost { call: call(), why: format!("{error:#}") });
        None
    }

    async fn exchange(
        &mut self,
        caller: Caller<'_>,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let connection = match self.connection.take() {
            Some(connection) => self.connection.insert(connection),
            None => self.connection.insert(Connection::open(self.address).await?),
        };
        let nonce = self.nonces.next();
        let token = match caller {
            Caller::Agent(agent) => agent.token(),
            Caller::Person(person) => &person.token,
        };
        let mut request = connection.request(method.clone(), path, token);
        if matches!(caller, Caller::Agent(_)) {
            request = request.header("relaytrace-nonce", nonce.clone());
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let answer = connection.send(request, body.clone()).await?;
        if let Caller::Agent(agent) = caller {
            self.verify(&answer, agent, &Asked { method, path, body: &body, nonce: nonce.to_str()? })?;
        }
        if answer.status == StatusCode::SERVICE_UNAVAILABLE && !answer.headers.contains_key("retry-after") {
            self.history.violation("503 without Retry-After", format!("{method} {path}"));
        }
        Ok(Reply { status: answer.status, body: answer.json().unwrap_or_default() })
    }

    /// An answer whose caller the service could not make out is not signed; every other is.
    fn verify(&self, answer: &Answer, agent: &Agent, asked: &Asked<'_>) -> Result<()> {
        let may_lack = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE);
        if may_lack && !answer.headers.contains_key("signature") {
            return Ok(());
        }
        agent.verify(answer, asked).inspect_err(|error| {
            let Asked { method, path, .. } = asked;
            self.history.violation("response that does not verify", format!("{method} {path}: {error:#}"));
        })
    }

    /// Notes an answer that refuses. What no fault can excuse is a violation.
    pub fn refused(&self, call: &str, reply: &Reply) {
        let (status, code) = (reply.status.as_u16(), reply.text("code"));
        if !(self.excused)(status, &code) {
            self.history.violation("refusal", format!("{call}: {status} {}", reply.body));
        }
        self.history.add(Record::Refused { call: call.to_owned(), status, code });
    }

    /// Submits once; the request's id if the answer was 201 or 200.
    pub async fn submit(&mut self, agent: &Agent, client_request_key: &str, envelope: &Value) -> Option<String> {
        let agent_id = agent.id.clone();
        let client_request_key = client_request_key.to_owned();
        let (of, key) = (agent_id.clone(), client_request_key.clone());
        self.history.add(Record::Sent { agent_id: of, client_request_key: key });
        let reply = self.call(Caller::Agent(agent), Method::POST, "/v1/hitl/requests", Some(envelope)).await?;
        if !matches!(reply.status, StatusCode::CREATED | StatusCode::OK) {
            self.refused("submit", &reply);
            return None;
        }
        let (request_id, action_digest) = (reply.text("request_id"), reply.text("action_digest"));
        let duplicate = reply.body["duplicate"] == true;
        self.history.add(Record::Submitted {
            agent_id,
            client_request_key,
            request_id: request_id.clone(),
            action_digest,
            duplicate,
        });
        Some(request_id)
    }

    /// Submits until it is answered with 201 or 200: the same bytes again and again, as an agent does.
    pub async fn submit_until_answered(&mut self, agent: &Agent, client_request_key: &str) -> String {
        let envelope = envelope(&agent.id, client_request_key);
        loop {
            if let Some(request_id) = self.submit(agent, client_request_key, &envelope).await {
                return request_id;
            }
            sleep(PAUSE).await;
        }
    }

    /// Decides once; `true` if there is a decision now, this one or another.
    pub async fn decide(&mut self, operator: &Person, request_id: &str, approve: bool) -> bool {
        let body = if approve {
            json!({"decision": "approve"})
        } else {
            json!({"decision": "reject", "reason": "not in a drill"})
        };
        let path = format!("/v1/hitl/requests/{request_id}/decision");
        let Some(reply) = self.call(Caller::Person(operator), Method::POST, &path, Some(&body)).await else {
            return false;
        };
        let request_id = request_id.to_owned();
        match reply.status.as_u16() {
            200 | 201 => {
                let outcome = reply.text("outcome");
                self.history.add(Record::Decided { request_id, outcome, operator: operator.id.clone() });
                true
            }
            409 if reply.text("code") == "already-decided" => {
                let standing = &reply.body["decision"];
                let (outcome, decided_by) = (text(standing, "outcome"), text(&standing["decided_by"], "id"));
                self.history.add(Record::Stands { request_id, outcome, decided_by });
                true
            }
            _ => {
                self.refused("decide", &reply);
                false
            }
        }
    }

    /// Decides until there is a decision.
    pub async fn decide_until_answered(&mut self, operator: &Person, request_id: &str, approve: bool) {
        while !self.decide(operator, request_id, approve).await {
            sleep(PAUSE).await;
        }
    }

    /// Polls once. `None`: no answer that counts.
    pub async fn poll(&mut self, agent: &Agent, wait_seconds: u64, limit: u64) -> Option<Vec<Delivery>> {
        let path = format!("/v1/agents/{}/decisions/poll?wait_seconds={wait_seconds}&limit={limit}", agent.id);
        let reply = self.call(Caller::Agent(agent), Method::GET, &path, None).await?;
        if reply.status != StatusCode::OK {
            self.refused("poll", &reply);
            return None;
        }
        let decisions = reply.body["decisions"].as_array().cloned().unwrap_or_default();
        let deliveries = decisions.iter().map(|decision| {
            let delivery = Delivery::of(decision);
            self.history.add(Record::Delivered {
                request_id: delivery.request_id.clone(),
                delivery_id: delivery.delivery_id.clone(),
                attempt: delivery.attempt,
                outcome: delivery.outcome.clone(),
                action_digest: delivery.action_digest.clone(),
            });
            delivery
        });
        Some(deliveries.collect())
    }

    /// Acknowledges once.
    pub async fn acknowledge(&mut self, agent: &Agent, delivery: &Delivery, result: &str) -> Acknowledged {
        let path = format!("/v1/agents/{}/decisions/{}/ack", agent.id, delivery.request_id);
        let body = json!({"delivery_id": delivery.delivery_id, "result": result});
        let Some(reply) = self.call(Caller::Agent(agent), Method::POST, &path, Some(&body)).await else {
            return Acknowledged::Unknown;
        };
        if reply.status != StatusCode::OK {
            self.refused("acknowledge", &reply);
            let is_over = matches!(&*reply.text("code"), "stale-delivery" | "already-consumed");
            return if is_over { Acknowledged::Stale } else { Acknowledged::Unknown };
        }
        let state = reply.text("state");
        self.history.add(Record::Acknowledged {
            request_id: delivery.request_id.clone(),
            delivery_id: delivery.delivery_id.clone(),
            state: state.clone(),
        });
        if state != "ready" {
            self.history.finish_delivery(&agent.id, &delivery.request_id);
        }
        Acknowledged::State(state)
    }

    /// Acknowledges until it is answered: an acknowledgement may be repeated.
    pub async fn acknowledge_until_answered(&mut self, agent: &Agent, delivery: &Delivery, result: &str) {
        while self.acknowledge(agent, delivery, result).await == Acknowledged::Unknown {
            sleep(PAUSE).await;
        }
    }

    /// Runs one sweep, as a scheduler does; its counts, if the answer was 200.
    pub async fn sweep(&mut self, admin: &Person) -> Option<Value> {
        let reply = self.call(Caller::Person(admin), Method::POST, "/internal/timeout-sweep", None).await?;
        if reply.status != StatusCode::OK {
            self.refused("sweep", &reply);
            return None;
        }
        Some(reply.body)
    }

    /// One call that must be answered with this status; the body.
    pub async fn must(
        &mut self,
        caller: Caller<'_>,
        method: Method,
        path: &str,
        body: Option<&Value>,
        status: u16,
    ) -> Result<Value> {
        let call = format!("{method} {path}");
        let reply = self.call(caller, method, path, body).await.with_context(|| format!("{call} was not answered"))?;
        anyhow::ensure!(reply.status.as_u16() == status, "{call}: {} {}, not {status}", reply.status, reply.body);
        Ok(reply.body)
    }
}

/// An envelope whose action is the key's own.
pub fn envelope(agent_id: &str, client_request_key: &str) -> Value {
    json!({
        "envelope_version": "1", "agent_id": agent_id, "client_request_key": client_request_key, "priority": "P2",
        "title": "A drill", "action": {"type": "drill.act", "arguments": {"key": client_request_key}},
        "resume": {"key": client_request_key},
    })
}

/// The digest of that action, made here: its RFC 8785 form is plain to see.
pub fn action_digest(client_request_key: &str) -> String {
    let canonical = format!(r#"{{"arguments":{{"key":"{client_request_key}"}},"type":"drill.act"}}"#);
    format!("sha256:{}", hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref()))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a poll may take by its own wish.
fn waiting_seconds(path: &str) -> u64 {
    let wish = path.split_once("wait_seconds=").map(|(_, rest)| rest.split('&').next().unwrap_or_default());
    wish.and_then(|wish| wish.parse().ok()).unwrap_or(0)
}
