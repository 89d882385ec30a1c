//! The two services: where each takes a request, a decision and a look.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use uuid::Uuid;

/// Which service.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Kind {
    Relaytrace,
    Restate,
}

/// A service under load.
#[derive(Clone, Debug)]
pub struct Service {
    kind: Kind,
    client: Client<HttpConnector, Full<Bytes>>,
    address: String,
    agent: Vec<(&'static str, String)>,
    operator: Vec<(&'static str, String)>,
}

/// A request, as its service names it.
#[derive(Clone, Debug)]
pub struct Ticket(String);

/// Sent with each call of an agent: the answer is signed over it.
const NONCE: &str = "0123456789abcdef0123";
/// Polls until a decision is given up, of 20 seconds each.
const POLLS: usize = 20;

impl Service {
    /// Out of `PEER_ADDRESS`, and for RelayTrace `AGENT_TOKEN` and `OPERATOR_TOKEN`.
    pub fn from_environment(kind: Kind) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is missing"));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(4_096).build(connector);
        let bearer = |token: String| ("authorization", format!("Bearer {token}"));
        let (agent, operator) = match kind {
            Kind::Restate => (Vec::new(), Vec::new()),
            Kind::Relaytrace => (
                vec![bearer(variable("AGENT_TOKEN")?), ("relaytrace-nonce", NONCE.to_owned())],
                vec![bearer(variable("OPERATOR_TOKEN")?)],
            ),
        };
        Ok(Self { kind, client, address: variable("PEER_ADDRESS")?, agent, operator })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Option<&Value>,
    ) -> Result<Bytes> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = self.client.request(request.body(Full::new(Bytes::from(body)))?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status} {path}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// Submits a request of about 1 KiB.
    pub async fn submit(&self) -> Result<Ticket> {
        let key = Uuid::now_v7().to_string();
        match self.kind {
            Kind::Restate => {
                let headers = [("idempotency-key", key)];
                let asked = json!({"tool": "bank.transfer", "args": arguments()});
                let answer = self.call(Method::POST, "/approval/request/send", &headers, Some(&asked)).await?;
                text(&answer, "invocationId").map(Ticket)
            }
            Kind::Relaytrace => {
                let envelope = json!({
                    "envelope_version": "1", "agent_id": "local-agent", "client_request_key": key, "priority": "P3",
                    "title": "Transfer 1,250.50 EUR", "resume": {"step": 4},
                    "action": {"type": "bank.transfer", "arguments": arguments()},
                });
                let answer = self.call(Method::POST, "/v1/hitl/requests", &self.agent, Some(&envelope)).await?;
                text(&answer, "request_id").map(Ticket)
            }
        }
    }

    /// Decides it, as an operator.
    pub async fn resolve(&self, ticket: &Ticket) -> Result<()> {
        match self.kind {
            Kind::Restate => {
                let path = format!("/restate/awakeables/{}/resolve", awakeable(&ticket.0)?);
                let decision = json!({"decision": "approved", "comment": "looks good to me"});
                self.call(Method::POST, &path, &[], Some(&decision)).await?;
            }
            Kind::Relaytrace => {
                let path = format!("/v1/hitl/requests/{}/decision", ticket.0);
                let decision = json!({"decision": "approve", "reason": "looks good to me"});
                self.call(Method::POST, &path, &self.operator, Some(&decision)).await?;
            }
        }
        Ok(())
    }

    /// Waits until its agent has the answer. RelayTrace acknowledges behind it; Restate has no acknowledgement.
    pub async fn wait(&self, ticket: &Ticket) -> Result<()> {
        let Kind::Relaytrace = self.kind else {
            let path = format!("/restate/invocation/{}/attach", ticket.0);
            return is_approved(&self.call(Method::GET, &path, &[], None).await?);
        };
        let path = format!("/v1/agents/local-agent/decisions/poll?wait_seconds=20&limit=1&request_id={}", ticket.0);
        for _ in 0..POLLS {
            let polled: Value = serde_json::from_slice(&self.call(Method::GET, &path, &self.agent, None).await?)?;
            let [decision] = polled["decisions"].as_array().map_or(&[][..], Vec::as_slice) else { continue };
            ensure!(decision["outcome"] == "approved", "another outcome: {decision}");
            let acknowledged = json!({"delivery_id": decision["delivery_id"], "result": "accepted"});
            let (service, path) = (self.clone(), format!("/v1/agents/local-agent/decisions/{}/ack", ticket.0));
            tokio::spawn(async move {
                let acked = service.call(Method::POST, &path, &service.agent, Some(&acknowledged)).await;
                if let Err(error) = acked {
                    eprintln!("not acknowledged: {error:#}");
                }
            });
            return Ok(());
        }
        anyhow::bail!("no decision after {POLLS} polls")
    }

    /// Looks at a decided request and takes nothing.
    pub async fn look(&self, ticket: &Ticket) -> Result<()> {
        match self.kind {
            Kind::Restate => self.wait(ticket).await,
            Kind::Relaytrace => {
                let path = format!("/v1/agents/local-agent/requests/{}", ticket.0);
                is_approved(&self.call(Method::GET, &path, &self.agent, None).await?)
            }
        }
    }
}

/// Some 900 bytes that hardly compress.
fn arguments() -> Value {
    let words: Vec<String> = (0..24).map(|_| Uuid::new_v4().simple().to_string()).collect();
    json!({"to": "DE89370400440532013000", "amount": 1250.5, "currency": "EUR", "reason": words.join(" ")})
}

fn text(body: &[u8], member: &str) -> Result<String> {
    let body: Value = serde_json::from_slice(body)?;
    body[member].as_str().map(str::to_owned).with_context(|| format!("no {member} in {body}"))
}

fn is_approved(body: &[u8]) -> Result<()> {
    ensure!(String::from_utf8_lossy(body).contains("approved"), "no decision yet");
    Ok(())
}

/// The id of the first awakeable of an invocation's handler: it follows from the invocation's own.
fn awakeable(invocation: &str) -> Result<String> {
    let id = invocation.strip_prefix("inv_1").context("an invocation of another kind")?;
    let (partition, uuid) = id.split_at_checked(11).context("an invocation id that is too short")?;
    let mut bytes = (number(partition)? as u64).to_le_bytes().to_vec();
    bytes.extend(number(uuid)?.to_le_bytes());
    bytes.extend(17u32.to_be_bytes());
    Ok(format!("sign_1{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// A number in base 62: digits, small letters, capitals.
fn number(text: &str) -> Result<u128> {
    const DIGITS: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    text.chars().try_fold(0u128, |number, digit| {
        let digit = DIGITS.find(digit).with_context(|| format!("{digit} is no digit"))?;
        Ok(number * 62 + digit as u128)
    })
}
