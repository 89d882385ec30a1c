//! One client and its server: every message passes on as it came, but a call that has to be approved waits.

mod guarded;
mod server;
mod tasks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caller::Caller;
use crate::catalog::Catalog;
use crate::child::Outgoing;
use crate::guard::{Guard, Run};
use crate::message::{self, INVALID_REQUEST, Kind, Members, Unreadable, kind, unbatched};
use crate::tasks::{Tasks, is_own as is_own_task};
use crate::{OWN_ID, is_own};

/// Revision of the protocol that has tasks in its core.
const WITH_TASKS: &str = "2025-11-25";
/// JSON-RPC: the params of a request are not what its method takes.
const INVALID_PARAMS: i32 = -32602;
/// Most calls of a client that wait or run at a time.
const MOST_CALLS: usize = 1_000;
/// Most requests of a client at a time whose responses the gateway reads.
const MOST_READ: usize = 1_000;
/// How long the server may take to answer a call that its client has cancelled: it need not answer at all.
const CANCELLED_FOR: Duration = Duration::from_secs(30);
/// How long the ends of calls may take to be reported when the session is over.
const REPORT_DEADLINE: Duration = Duration::from_secs(5);

/// Messages of one client and its server.
#[derive(Debug)]
pub struct Session {
    guard: Arc<Guard>,
    to_client: mpsc::Sender<String>,
    to_server: mpsc::Sender<Outgoing>,
    state: Mutex<State>,
    /// One reads the server's list of tools at a time.
    listing: tokio::sync::Mutex<()>,
    /// Calls that wait. They end with the session; their questions stay open, for the same call again.
    waiting: Mutex<JoinSet<()>>,
    /// Reports that are under way.
    reports: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    caller: Caller,
    /// Revision that client and server agreed on, up to 2025-11-25.
    version: Option<String>,
    /// The server makes tasks of calls itself (revision 2025-11-25).
    server_has_tasks: bool,
    catalog: Catalog,
    /// Requests of the client whose responses are looked into, by their ids.
    read: HashMap<String, Read>,
    /// The gateway's own requests to the server.
    own: HashMap<String, oneshot::Sender<String>>,
    /// Guarded calls of the client that have no response so far, by the ids of their requests.
    calls: HashMap<String, InHand>,
    /// Approved calls that the server works on, by the ids under which it got them.
    running: HashMap<String, Running>,
    /// Approved calls for which the server wants further input of the client, by key and `requestState`.
    continued: HashMap<(String, Option<String>), Kept<Running>>,
    tasks: Tasks,
    /// Approved calls that the server has made tasks of, by its ids.
    passed: HashMap<String, Kept<Box<Run>>>,
}

/// What is remembered until then.
#[derive(Debug)]
struct Kept<T> {
    what: T,
    until: Instant,
}

/// What a response is read for.
#[derive(Debug)]
enum Read {
    /// What the server can do, up to revision 2025-11-25.
    Initialize,
    /// What the server can do, from revision 2026-07-28 on.
    Discover,
    /// Its tools.
    Tools,
    /// Its tasks.
    Tasks,
    /// The state of this task of the server's, where it says one.
    Task(String),
    /// The result of this task of the server's.
    Result(String),
}

/// A guarded call, or a client that waits for the result of one.
#[derive(Debug)]
struct InHand {
    taken_back: CancellationToken,
    task: Option<AbortHandle>,
    /// The id under which the server got it.
    runs_as: Option<String>,
    /// It is a request about a task, which counts itself.
    is_about_task: bool,
}

#[derive(Debug)]
struct Running {
    run: Box<Run>,
    key: String,
    to: To,
    /// Its client has cancelled it: until then the server may still say how it ended.
    until: Option<Instant>,
}

/// Who gets the response to an approved call.
#[derive(Clone, Debug)]
enum To {
    /// The client, to its request of this id.
    Client(String),
    /// The task of this id.
    Task(String),
}

impl Session {
    /// Of these two ways out.
    pub fn new(
        guard: Arc<Guard>,
        principal: String,
        to_client: mpsc::Sender<String>,
        to_server: mpsc::Sender<Outgoing>,
    ) -> Arc<Self> {
        let state = State { caller: Caller { principal, ..Caller::default() }, ..State::default() };
        Arc::new(Self {
            guard,
            to_client,
            to_server,
            state: Mutex::new(state),
            listing: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            reports: TaskTracker::new(),
        })
    }

    /// A message, or a batch of them, from the client, with what it shows for authorization (HTTP).
    pub async fn asked(self: &Arc<Self>, text: &str, shown: Option<&HeaderValue>) {
        for text in unbatched(text) {
            if let Err(Unreadable(why)) = self.one_asked(&text, shown).await {
                tracing::warn!("a message of the client is not passed on: {why}");
                let id = Members::look(&text).and_then(|members| members.get("id"));
                if let Some(id) = id {
                    self.tell(message::error(id.get(), INVALID_REQUEST, &format!("not passed on: {why}"))).await;
                }
            }
        }
    }

    async fn one_asked(self: &Arc<Self>, text: &str, shown: Option<&HeaderValue>) -> Result<(), Unreadable> {
        let members = Members::of_client(text)?;
        let mut text = text.to_owned();
        match kind(&members) {
            Kind::Request { id, .. } if is_own(&id) => {
                return Err(Unreadable(format!("ids of {OWN_ID} are the gateway's")));
            }
            Kind::Request { id, method } => {
                if self.state().is_open(&id) {
                    return Err(Unreadable("a request with this id is under way".to_owned()));
                }
                if method == "tools/call" {
                    return self.call(&text, &members, id, shown).await;
                }
                let task = members.inner("params").and_then(|params| params.text("taskId"));
                if let Some(task) = task.filter(|task| method.starts_with("tasks/") && is_own_task(task)) {
                    return self.task_asked(&text, &members, id, &method, task, shown).await;
                }
                self.expect(id, &method, &members)?;
            }
            Kind::Notification { method } if method == "notifications/cancelled" => {
                let params = members.inner("params");
                let id = params.as_ref().and_then(|params| params.get("requestId")).map(|id| id.get().to_owned());
                match id.map_or(TakenBack::Unknown, |id| self.take_back(&id)) {
                    TakenBack::Here => return Ok(()),
                    TakenBack::Runs(own) => {
                        let params = params.map(|params| params.with("requestId", &own)).unwrap_or_default();
                        text = members.with("params", &params);
                    }
                    TakenBack::Unknown => {}
                }
            }
            // A server might run it all the same.
            Kind::Notification { method } if method == "tools/call" => {
                return Err(Unreadable("tools/call without an id".to_owned()));
            }
            Kind::Notification { .. } => text = self.state().tasks.to_server(&members).unwrap_or(text),
            // The server never asked this.
            Kind::Response { id } if is_own(&id) => return Ok(()),
            Kind::Response { .. } if members.get("result").or(members.get("error")).is_some() => {
                text = self.state().tasks.to_server(&members).unwrap_or(text);
            }
            Kind::Response { .. } | Kind::Other => return Err(Unreadable("it is no JSON-RPC message".to_owned())),
        }
        self.pass(text, shown).await;
        Ok(())
    }

    /// Remembers what the response to a request will be read for.
    fn expect(&self, id: String, method: &str, members: &Members<'_>) -> Result<(), Unreadable> {
        let read = match method {
            "initialize" => Read::Initialize,
            "server/discover" => Read::Discover,
            "tools/list" => Read::Tools,
            "tasks/list" => Read::Tasks,
            _ => return Ok(()),
        };
        let mut state = self.state();
        if matches!(read, Read::Initialize) {
            let principal = state.caller.principal.clone();
            let introduced = members.inner("params").map(|params| Caller::introduced(&params));
            state.caller = Caller { principal, ..introduced.unwrap_or_default() };
        }
        state.read(id, read)
    }

    /// The client does not want the answer to a request any more.
    fn take_back(&self, id: &str) -> TakenBack {
        let mut state = self.state();
        // Its response will not come, and is not waited for.
        state.read.remove(id);
        match state.calls.remove(id) {
            // The server has never seen it.
            Some(InHand { runs_as: None, taken_back, .. }) => {
                taken_back.cancel();
                TakenBack::Here
            }
            // A server need not answer what was cancelled; if it does, the end is on record.
            Some(InHand { runs_as: Some(own), .. }) => {
                state.cancelled(&own);
                TakenBack::Runs(own)
            }
            None => TakenBack::Unknown,
        }
    }

    /// The client is gone. Its calls do not wait any longer; their questions stay open, for the same calls again.
    pub fn hang_up(&self) {
        self.waiting().abort_all();
    }

    /// What the client was told so far is on its way.
    pub async fn flushed(&self) {
        drop(self.to_client.reserve_many(self.to_client.max_capacity()).await);
    }

    /// The server is gone: calls that wait or run get an answer.
    pub async fn lose_server(&self) {
        self.hang_up();
        let open: Vec<String> = self.state().calls.drain().map(|(id, _)| id).collect();
        for id in open {
            self.tell(message::lost(&id, "the server has ended")).await;
        }
    }

    /// The client has lost the way back of this request: it does not wait any longer, and its question stays open.
    pub fn abandon(&self, id: &str) {
        let mut state = self.state();
        state.read.remove(id);
        if state.calls.get(id).is_some_and(|call| call.runs_as.is_none())
            && let Some(InHand { task: Some(task), .. }) = state.calls.remove(id)
        {
            task.abort();
        }
    }

    /// Whether the server works on an approved call, or waits for more of its client's input.
    pub fn is_busy(&self) -> bool {
        let mut state = self.state();
        state.tidy();
        !state.running.is_empty() || !state.continued.is_empty()
    }

    /// The session is over: what has run is reported.
    pub async fn end(&self) {
        self.hang_up();
        self.reports.close();
        if timeout(REPORT_DEADLINE, self.reports.wait()).await.is_err() {
            tracing::warn!("some ends of calls were not reported in time");
        }
    }

    async fn pass(&self, text: String, shown: Option<&HeaderValue>) {
        // The server is gone: so is the session, soon.
        drop(self.to_server.send(Outgoing { text, shown: shown.cloned() }).await);
    }

    /// Asks the server for its list of tools, to see how it takes what a client shows for authorization.
    pub async fn try_out(&self, own: &str, meta: Option<&Members<'_>>, shown: &HeaderValue) {
        self.pass(list_of_tools(own, None, meta), Some(shown)).await;
    }

    async fn tell(&self, text: String) {
        drop(self.to_client.send(text).await);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The client has cancelled the call that runs under this id.
    fn cancelled(&mut self, own: &str) {
        if let Some(running) = self.running.get_mut(own) {
            running.until = Some(Instant::now() + CANCELLED_FOR);
        }
    }

    /// How many calls wait, run, or go on later. Each counts once, however its client waits.
    fn under_way(&mut self) -> usize {
        self.tidy();
        let held = self.calls.values().filter(|call| !call.is_about_task && call.runs_as.is_none()).count();
        let (running, going_on) = (self.running.len(), self.continued.len() + self.passed.len());
        held + self.tasks.waiting() + running + going_on
    }

    /// How many requests about tasks have no response so far.
    fn about_tasks(&self) -> usize {
        self.calls.values().filter(|call| call.is_about_task).count()
    }

    /// Drops what was remembered long enough: the ends of these calls stay on record as unknown.
    fn tidy(&mut self) {
        let now = Instant::now();
        self.tasks.tidy(now);
        let running = self.running.extract_if(|_, running| running.until.is_some_and(|until| until < now));
        let continued = self.continued.extract_if(|_, kept| kept.until <= now);
        let passed = self.passed.extract_if(|_, kept| kept.until < now);
        let dropped = running.map(|(_, running)| running.run).chain(continued.map(|(_, kept)| kept.what.run));
        for run in dropped.chain(passed.map(|(_, kept)| kept.what)) {
            tracing::warn!(request.id = %run.request_id(), "the server did not say in time how a call ended");
        }
    }

    /// Whether a request with this id has no response so far, as far as that matters here.
    fn is_open(&self, id: &str) -> bool {
        self.calls.contains_key(id) || self.read.contains_key(id)
    }

    fn read(&mut self, id: String, read: Read) -> Result<(), Unreadable> {
        if self.read.len() >= MOST_READ {
            return Err(Unreadable(format!("{MOST_READ} requests have no response")));
        }
        self.read.insert(id, read);
        Ok(())
    }
}

/// What a client takes back.
enum TakenBack {
    /// A call that the server has never seen.
    Here,
    /// A call that the server got under this id.
    Runs(String),
    /// Something else.
    Unknown,
}

/// A request for the server's list of tools, or for the page of it at `cursor`.
fn list_of_tools(id: &str, cursor: Option<&str>, meta: Option<&Members<'_>>) -> String {
    let cursor = cursor.map(|cursor| format!("\"cursor\":{}", message::quoted(cursor)));
    let meta = meta.map(|meta| format!("\"_meta\":{}", meta.without("progressToken")));
    let params = [cursor, meta].into_iter().flatten().collect::<Vec<_>>().join(",");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{{params}}}}}"#)
}

#[cfg(test)]
pub mod tests;
