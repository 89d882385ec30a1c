//! Receivers that write down when they were told of a request: a webhook, a browser's push service, a mail server.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::serve;

/// How somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    Webhook,
    Mailbox,
    PushService,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Webhook, Self::Mailbox, Self::PushService];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mailbox => "mailbox",
            Self::PushService => "push service",
        }
    }
}

/// When each request was told, by its id without hyphens; each time that it was.
type Told = Arc<Mutex<HashMap<(By, String), Vec<Instant>>>>;

/// The receivers, until they are dropped.
pub struct Receivers {
    /// Webhook at `/webhook`, push service at `/push`.
    pub http: SocketAddr,
    /// The mail server.
    pub smtp: SocketAddr,
    told: Told,
    _tasks: JoinSet<()>,
}

impl Receivers {
    /// Starts them on free ports.
    pub async fn start() -> Result<Self> {
        let (http, smtp) =
            (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let (at, mail_at) = (http.local_addr()?, smtp.local_addr()?);
        let (told, mut tasks) = (Told::default(), JoinSet::new());
        let noted = told.clone();
        tasks.spawn(serve::http(http, move |request| take(request, noted.clone())));
        tasks.spawn(serve_smtp(smtp, told.clone()));
        Ok(Self { http: at, smtp: mail_at, told, _tasks: tasks })
    }

    /// When a request was told by this way: each time.
    pub fn told(&self, by: By, request_id: &str) -> Vec<Instant> {
        let key = (by, request_id.replace('-', ""));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned().unwrap_or_default()
    }
}

fn note(told: &Told, by: By, request_id: String) {
    told.lock().unwrap_or_else(PoisonError::into_inner).entry((by, request_id)).or_default().push(Instant::now());
}

/// The request of a message's id, `msg_<listener>_<request>_<entry>`.
fn request_of(message_id: &str) -> Option<String> {
    message_id.split('_').nth(2).map(str::to_owned)
}

async fn take(request: Request<Incoming>, told: Told) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    drop(body.collect().await);
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (by, request_id) = if parts.uri.path() == "/push" {
        // What a push service is told is encrypted for the browser; the topic names the request.
        (By::PushService, Some(header("topic").to_owned()))
    } else {
        (By::Webhook, request_of(header("webhook-id")))
    };
    if let Some(request_id) = request_id {
        note(&told, by, request_id);
    }
    Response::new(Full::default())
}

async fn serve_smtp(listener: TcpListener, told: Told) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let told = told.clone();
        connections.spawn(async move { drop(receive_mail(stream, &told).await) });
    }
}

/// One connection of RFC 5321, as far as a client needs that speaks it well.
async fn receive_mail(stream: TcpStream, told: &Told) -> Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 drill\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        if command != "DATA" {
            let answer: &[u8] = if command == "QUIT" { b"221 bye\r\n" } else { b"250 ok\r\n" };
            stream.write_all(answer).await?;
            continue;
        }
        stream.write_all(b"354 go on\r\n").await?;
        let mut request_id = None;
        loop {
            line.clear();
            stream.read_line(&mut line).await.context("a mail broke off")?;
            if line == ".\r\n" {
                break;
            }
            if let Some(id) = line.strip_prefix("Message-ID: <") {
                request_id = request_of(id);
            }
        }
        if let Some(request_id) = request_id {
            note(told, By::Mailbox, request_id);
        }
        stream.write_all(b"250 taken\r\n").await?;
    }
}
