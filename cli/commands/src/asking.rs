//! What `ask` and `run` share: the question, the wait with its progress line, and taking the question back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use relaytrace_client::{
    Action, Client, Envelope, Error, OnBehalfOf, Patience, PermitInUse, Priority, RequestState, Why,
};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::exit::{Fault, Result};
use crate::settings::{Settings, link};
use crate::terminal::{Progress, duration};

/// 128 and SIGINT: as a shell says it of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;
/// Longest title of the contract, in characters.
const LONGEST_TITLE: usize = 200;

/// Options of a question.
#[derive(Args, Clone, Debug)]
pub struct Question {
    /// Type of the action, such as `refund.create`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// The question in one line, up to 200 characters.
    #[arg(long)]
    title: Option<String>,
    /// How urgent it is: P1, P2 or P3.
    #[arg(long, default_value = "P2", value_parser = priority)]
    priority: Priority,
    /// Markdown for the operator.
    #[arg(long)]
    summary: Option<String>,
    /// A JSON object for the operator's eyes, from this file (`-`: standard input).
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// How long to wait: 90s, 10m, 2h. Without it, until the deadline of the relay's policy.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait: Option<Duration>,
    /// The question's own name: the same key finds the same question again. With it the end of --wait leaves the question
    /// open; without it, it is taken back.
    #[arg(long)]
    key: Option<String>,
    /// Questions of one name are shown together.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// The person for whom this asks, and who may not approve it.
    #[arg(long, value_name = "PERSON")]
    on_behalf_of: Option<String>,
    /// How long an approval may be used: 10s to 24h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    permit: Option<Duration>,
}

/// P1, P2 or P3.
pub fn priority(text: &str) -> Result<Priority, &'static str> {
    serde_json::from_value(text.into()).map_err(|_| "it must be P1, P2 or P3")
}

impl Question {
    /// Type of the action.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// How long to wait.
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Whether the question has a name by which it can be found again.
    pub fn is_named(&self) -> bool {
        self.key.is_some()
    }

    /// The envelope of this action. `title` is what it is called where nothing was said.
    pub fn envelope(&self, client: &Client, title: &str, action: Action) -> Result<Envelope> {
        let title: String = self.title.as_deref().unwrap_or(title).chars().take(LONGEST_TITLE).collect();
        let made = client.question(self.priority, &title, action)?;
        let on_behalf_of = self.on_behalf_of.clone().map(|id| OnBehalfOf { id, name: None });
        let permit_seconds = self.permit.map(|permit| u32::try_from(permit.as_secs()).unwrap_or(u32::MAX));
        Ok(Envelope {
            client_request_key: self.key.clone().unwrap_or(made.client_request_key),
            summary: self.summary.clone(),
            context: self.context.as_deref().map(json_of).transpose()?,
            group: self.group.clone(),
            on_behalf_of,
            permit_seconds,
            ..made
        })
    }
}

/// The JSON of a file; `-` is standard input.
pub fn json_of(path: &std::path::Path) -> Result<Value> {
    let read =
        if path.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let wrong = |fault: &dyn std::fmt::Display| Fault::usage(format!("{}: {fault}", path.display()));
    serde_json::from_str(&read.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))
}

/// One question, from the first byte to its end.
#[derive(Debug)]
pub struct Asking<'a> {
    client: &'a Client,
    url: String,
    stopped: Arc<Notify>,
    is_stopped: Arc<AtomicBool>,
    is_running: Arc<AtomicBool>,
    progress: Progress,
}

impl<'a> Asking<'a> {
    /// From now on Ctrl-C, SIGTERM and SIGHUP take the question back. A second one ends this process at once.
    pub fn start(settings: &Settings, client: &'a Client) -> Result<Self> {
        let (stopped, is_stopped) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let is_running = Arc::new(AtomicBool::new(false));
        let mut signals = Vec::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            signals.push(signal(kind).map_err(|error| Fault::failed(format!("signals cannot be awaited: {error}")))?);
        }
        for mut signal in signals {
            let (stopped, is_stopped, is_running) = (stopped.clone(), is_stopped.clone(), is_running.clone());
            tokio::spawn(async move {
                while signal.recv().await.is_some() {
                    // What runs handles its signals itself.
                    if is_running.load(Ordering::Relaxed) {
                        continue;
                    }
                    if is_stopped.swap(true, Ordering::Relaxed) {
                        std::process::exit(INTERRUPTED);
                    }
                    stopped.notify_one();
                }
            });
        }
        Ok(Self { client, url: settings.url()?, stopped, is_stopped, is_running, progress: Progress::default() })
    }

    /// From now on signals are not this question's any more; whether one came before.
    pub fn hand_over(&self) -> bool {
        self.is_running.store(true, Ordering::Relaxed);
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Asks, waits, and uses the approval up.
    pub async fn permit(&mut self, envelope: &Envelope, question: &Question) -> Result<PermitInUse, Error> {
        let Self { client, url, stopped, progress, .. } = self;
        let told = |asked: &RequestState| progress.show(&link(url, asked.request_id), asked.respond_by);
        let used = client.ask_while(envelope, question.wait(), told, stopped.notified()).await;
        progress.end();
        match used {
            Err(error) => Err(self.taken_back(error, question).await),
            used => used,
        }
    }

    /// Asks and waits for an approval that another process uses.
    pub async fn decided(
        &mut self,
        envelope: &Envelope,
        question: &Question,
    ) -> Result<(RequestState, relaytrace_client::Decision), Error> {
        let Self { client, url, stopped, progress, .. } = self;
        let asked = client.submit(envelope).await?;
        progress.show(&link(url, asked.request_id), asked.respond_by);
        let decision = tokio::select! {
            decision = client.wait(&asked, question.wait()) => decision,
            () = stopped.notified() => Err(client.withdraw(&asked).await),
        };
        progress.end();
        match decision {
            Ok(decision) => Ok((asked, decision)),
            Err(error) => Err(self.taken_back(error, question).await),
        }
    }

    /// Nobody could find a question without a name again: it does not stay open when its asker goes.
    async fn taken_back(&self, error: Error, question: &Question) -> Error {
        if let Error::NotApproved(pending) = &error
            && matches!(pending.why, Why::StillPending { .. })
            && !question.is_named()
        {
            // Decided meanwhile: nobody uses that approval, and it expires.
            drop(self.client.cancel(pending.request_id, Some("Its asker waits no longer.")).await);
        }
        error
    }
}

/// Time limits of the commands: a person is there who would rather know.
pub fn patience() -> Patience {
    Patience { in_all: Duration::from_mins(1), first_contact: Duration::from_secs(5), ..Patience::default() }
}
