//! A stand-in for the environment in which AWS Lambda runs a function: it hands out invocations as the runtime API does,
//! and freezes the process the moment its response has arrived.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::scene::Scene;
use super::serve;
use super::service::Service;
use crate::agent::{Agent, Asked, Nonces};
use crate::http::Answer;

/// API Gateway gives up then.
const LONGEST: Duration = Duration::from_secs(30);

/// One environment: a process of a function, frozen between its invocations.
pub struct Environment {
    service: Service,
    invocations: mpsc::Sender<(String, Value)>,
    shared: Arc<Shared>,
    nonces: Nonces,
    invoked: u64,
    _api: JoinSet<()>,
}

struct Shared {
    waiting: AsyncMutex<mpsc::Receiver<(String, Value)>>,
    answers: Mutex<HashMap<String, oneshot::Sender<Bytes>>>,
    pid: Mutex<Option<u32>>,
}

impl Environment {
    /// Starts a function's binary as Lambda does.
    pub async fn start(scene: &Scene<'_>, function: &str, variables: &[(&str, &str)], number: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let api = listener.local_addr()?.to_string();
        let (invocations, waiting) = mpsc::channel(1);
        let shared = Shared { waiting: AsyncMutex::new(waiting), answers: Mutex::default(), pid: Mutex::default() };
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        let served = shared.clone();
        tasks.spawn(serve::http(listener, move |request| {
            let shared = served.clone();
            async move { shared.answer(request).await.unwrap_or_else(|error| refuse(&error)) }
        }));
        let mut variables = variables.to_vec();
        variables.extend([
            ("AWS_LAMBDA_RUNTIME_API", api.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", function),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "drill"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "drill"),
        ]);
        let mut service = scene.function(function, &variables)?;
        service.spawn()?;
        *shared.pid.lock().unwrap_or_else(PoisonError::into_inner) = service.pid();
        Ok(Self { service, invocations, shared, nonces: Nonces::new(0x8000 + number), invoked: 0, _api: tasks })
    }

    /// Thaws the process, hands it a POST of this agent, and verifies its response, at which it is frozen again.
    pub async fn post(&mut self, agent: &Agent, path: &str, body: &Value) -> Result<Answer> {
        self.invoked += 1;
        let (id, nonce) = (format!("invocation-{}", self.invoked), self.nonces.next());
        let (sender, answer) = oneshot::channel();
        self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sender);
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
            "headers": {
                "authorization": agent.token().to_str()?, "content-type": "application/json",
                "relaytrace-nonce": nonce.to_str()?, "host": "drill.invalid",
            },
            "requestContext": {
                "accountId": "1", "apiId": "drill", "domainName": "drill.invalid", "domainPrefix": "drill",
                "http": {
                    "method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "drill",
                },
                "requestId": id, "routeKey": "$default", "stage": "$default",
                "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 1_767_225_600_000_u64,
            },
            "body": body.to_string(), "isBase64Encoded": false,
        });
        self.service.thaw()?;
        self.invocations.send((id, event)).await?;
        let said = timeout(LONGEST, answer).await.context("the function did not answer")??;
        let said: Value = serde_json::from_slice(&said).context("the function answered with no JSON")?;
        let answer = answer_of(&said)?;
        let body = body.to_string();
        let asked = Asked { method: &Method::POST, path, body: body.as_bytes(), nonce: nonce.to_str()? };
        agent.verify(&answer, &asked)?;
        Ok(answer)
    }
}

fn answer_of(said: &Value) -> Result<Answer> {
    let status = said["statusCode"].as_u64().context("the function answered without a status")?;
    let mut headers = HeaderMap::new();
    for (name, value) in said["headers"].as_object().into_iter().flatten() {
        let value = HeaderValue::from_str(value.as_str().unwrap_or_default())?;
        headers.insert(name.parse::<HeaderName>()?, value);
    }
    let body = said["body"].as_str().unwrap_or_default();
    let body =
        if said["isBase64Encoded"] == true { BASE64_STANDARD.decode(body)?.into() } else { body.to_owned().into() };
    Ok(Answer { status: StatusCode::from_u16(u16::try_from(status)?)?, headers, body })
}

fn refuse(error: &anyhow::Error) -> Response<Full<Bytes>> {
    eprintln!("a function on Lambda: {error:#}");
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

impl Shared {
    /// The calls of the runtime API (version 2018-06-01).
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        let path = path.strip_prefix("/2018-06-01/runtime/").context("an unknown version of the runtime API")?;
        let body = request.into_body().collect().await?.to_bytes();
        if path == "invocation/next" {
            let (id, event) = self.waiting.lock().await.recv().await.context("no more invocations")?;
            return Ok(Response::builder()
                .header("content-type", "application/json")
                .header("lambda-runtime-aws-request-id", id)
                .header("lambda-runtime-deadline-ms", "4102444800000")
                .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:nowhere-1:1:function:drill")
                .body(Full::from(event.to_string()))?);
        }
        let id = path.strip_prefix("invocation/").and_then(|rest| rest.strip_suffix("/response"));
        let Some(id) = id else { bail!("{path}: {}", String::from_utf8_lossy(&body)) };
        let sender = self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        // Nothing of the process runs any more from here on.
        if let Some(pid) = *self.pid.lock().unwrap_or_else(PoisonError::into_inner) {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP)?;
        }
        sender.context("an answer to nothing")?.send(body).ok().context("nobody waits for the answer")?;
        Ok(Response::builder().status(StatusCode::ACCEPTED).body(Full::default())?)
    }
}
