//! One client and its server: every message passes on as it came, but a call that has to be approved waits.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::OWN_ID;
use crate::caller::Caller;
use crate::catalog::{Catalog, Tool};
use crate::guard::{Guard, Line, Run, Verdict};
use crate::message::{self, INVALID_REQUEST, Kind, Members, Unreadable, kind, response, unbatched};
use crate::question::Call;
use crate::told::is_own_state;

/// JSON-RPC: the params of a request are not what its method takes.
const INVALID_PARAMS: i32 = -32602;
/// How long the server may take to list its tools.
const LIST_DEADLINE: Duration = Duration::from_secs(10);
/// Most pages of that list.
const MOST_PAGES: usize = 100;
/// Most calls of a client that wait or run at a time.
const MOST_CALLS: usize = 1_000;
/// How long the ends of calls may take to be reported when the session is over.
const REPORT_DEADLINE: Duration = Duration::from_secs(5);

/// Messages of one client and its server.
#[derive(Debug)]
pub struct Session {
    guard: Arc<Guard>,
    to_client: mpsc::Sender<String>,
    to_server: mpsc::Sender<String>,
    state: Mutex<State>,
    /// One reads the server's list of tools at a time.
    listing: tokio::sync::Mutex<()>,
    /// Calls that wait. They end with the session; their questions stay open, for the same call again.
    calls: Mutex<JoinSet<()>>,
    /// Reports that are under way.
    reports: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    caller: Caller,
    catalog: Catalog,
    /// Lists of tools that the client has asked for.
    lists: HashSet<String>,
    /// The gateway's own requests to the server.
    own: HashMap<String, oneshot::Sender<String>>,
    /// Calls that wait, by the ids of their requests.
    held: HashMap<String, Stop>,
    /// Approved calls that the server works on.
    running: HashMap<String, Running>,
    /// Approved calls for which the server wants further input of the client, by key and `requestState`.
    continued: HashMap<(String, Option<String>), Running>,
}

/// How a call that waits is ended.
#[derive(Debug)]
struct Stop {
    taken_back: CancellationToken,
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct Running {
    run: Box<Run>,
    key: String,
}

impl Session {
    /// Of these two ways out.
    pub fn new(
        guard: Arc<Guard>,
        principal: String,
        to_client: mpsc::Sender<String>,
        to_server: mpsc::Sender<String>,
    ) -> Arc<Self> {
        let state = State { caller: Caller { principal, ..Caller::default() }, ..State::default() };
        Arc::new(Self {
            guard,
            to_client,
            to_server,
            state: Mutex::new(state),
            listing: tokio::sync::Mutex::default(),
            calls: Mutex::default(),
            reports: TaskTracker::new(),
        })
    }

    /// A message, or a batch of them, from the client.
    pub async fn asked(self: &Arc<Self>, text: &str) {
        for text in unbatched(text) {
            if let Err(Unreadable(why)) = self.one_asked(&text).await {
                tracing::warn!("a message of the client is not passed on: {why}");
                let id = Members::look(&text).and_then(|members| members.get("id"));
                if let Some(id) = id {
                    self.tell(message::error(id.get(), INVALID_REQUEST, &format!("not passed on: {why}"))).await;
                }
            }
        }
    }

    async fn one_asked(self: &Arc<Self>, text: &str) -> Result<(), Unreadable> {
        let members = Members::of_client(text)?;
        match kind(&members) {
            Kind::Request { id, .. } if is_own(&id) => {
                return Err(Unreadable(format!("ids of {OWN_ID} are the gateway's")));
            }
            Kind::Request { id, method } => match method.as_str() {
                "tools/call" => return self.call(text, &members, id).await,
                "tools/list" => drop(self.state().lists.insert(id)),
                "initialize" => {
                    let mut state = self.state();
                    let principal = state.caller.principal.clone();
                    let introduced = members.inner("params").map(|params| Caller::introduced(&params));
                    state.caller = Caller { principal, ..introduced.unwrap_or_default() };
                }
                _ => {}
            },
            Kind::Notification { method } if method == "notifications/cancelled" => {
                let params = members.inner("params");
                let id = params.and_then(|params| params.get("requestId")).map(|id| id.get().to_owned());
                if id.is_some_and(|id| self.is_taken_back(&id)) {
                    return Ok(());
                }
            }
            // A server might run it all the same.
            Kind::Notification { method } if method == "tools/call" => {
                return Err(Unreadable("tools/call without an id".to_owned()));
            }
            Kind::Notification { .. } => {}
            // The server never asked this.
            Kind::Response { id } if is_own(&id) => return Ok(()),
            Kind::Response { .. } if members.get("result").or(members.get("error")).is_some() => {}
            Kind::Response { .. } | Kind::Other => return Err(Unreadable("it is no JSON-RPC message".to_owned())),
        }
        self.pass(text.to_owned()).await;
        Ok(())
    }

    /// Whether the server need not be told that a request is cancelled: it has never seen it.
    fn is_taken_back(&self, id: &str) -> bool {
        let mut state = self.state();
        // A server does not answer what was cancelled: how that run ended is not known.
        state.running.remove(id);
        state.held.remove(id).inspect(|stop| stop.taken_back.cancel()).is_some()
    }

    /// `tools/call`: passes on at once, or waits in a task of its own.
    async fn call(self: &Arc<Self>, text: &str, members: &Members<'_>, id: String) -> Result<(), Unreadable> {
        let params = Members::read(members.get("params").map_or("{}", |params| params.get()))?;
        let tool = params.text("name").and_then(|name| self.state().catalog.get(&name));
        if tool.as_ref().is_some_and(|tool| !self.guard.asks_about(tool)) {
            self.pass(text.to_owned()).await;
            return Ok(());
        }
        let taken_back = CancellationToken::new();
        {
            let mut state = self.state();
            if state.held.contains_key(&id) || state.running.contains_key(&id) {
                return Err(Unreadable("a request with this id is under way".to_owned()));
            }
            if state.held.len() + state.running.len() >= MOST_CALLS {
                return Err(Unreadable(format!("{MOST_CALLS} calls are under way")));
            }
            state.held.insert(id.clone(), Stop { taken_back: taken_back.clone(), task: None });
        }
        let (session, text, of) = (self.clone(), text.to_owned(), id.clone());
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        while calls.try_join_next().is_some() {}
        let task = calls.spawn(async move { session.hold(&text, of, tool, &taken_back).await });
        if let Some(stop) = self.state().held.get_mut(&id) {
            stop.task = Some(task);
        }
        Ok(())
    }

    /// A call that may have to be approved.
    async fn hold(&self, text: &str, id: String, tool: Option<Tool>, taken_back: &CancellationToken) {
        let verdict = match Members::look(text).and_then(|members| members.inner("params")) {
            Some(params) => self.verdict(&params, tool, taken_back).await,
            None => Err(Unreadable("params of tools/call are no object".to_owned())),
        };
        let is_wanted = self.state().held.remove(&id).is_some();
        match verdict {
            Ok(Held::Asked(Verdict::Run(run), key)) if is_wanted => self.run(text, id, Running { run, key }).await,
            Ok(Held::Asked(Verdict::Run(run), _)) => run.give_up().await,
            Ok(Held::Continued(running)) if is_wanted => self.run(text, id, running).await,
            Ok(Held::Unasked) if is_wanted => self.pass(text.to_owned()).await,
            Ok(Held::Asked(Verdict::Answer(result), _)) if is_wanted => self.tell(response(&id, &result)).await,
            Err(Unreadable(why)) if is_wanted => self.tell(message::error(&id, INVALID_PARAMS, &why)).await,
            Ok(Held::Asked(..) | Held::Continued(_) | Held::Unasked) | Err(_) => {}
        }
    }

    async fn verdict(
        &self,
        params: &Members<'_>,
        tool: Option<Tool>,
        taken_back: &CancellationToken,
    ) -> Result<Held, Unreadable> {
        let meta = params.inner("_meta");
        let tool = if let Some(tool) = tool {
            tool
        } else {
            let name = params.text("name").unwrap_or_default();
            self.looked_up(&name, meta.as_ref().map(|meta| meta.without("progressToken"))).await
        };
        if !self.guard.asks_about(&tool) {
            return Ok(Held::Unasked);
        }
        let call = Call::read(&self.guard.asking, params)?;
        let caller = self.state().caller.or_of_request(meta.as_ref());
        let key = call.key(&self.guard.asking, &caller.principal);
        let is_ours = call.state.as_deref().is_some_and(is_own_state);
        if !is_ours && params.get("inputResponses").or(params.get("requestState")).is_some() {
            // What goes on with a call that was approved runs with it; nobody could judge it alone.
            let continued = self.state().continued.remove(&(key, call.state));
            let why = "it goes on with a call that was not approved here: call the tool without requestState";
            return continued.map(Held::Continued).ok_or_else(|| Unreadable(why.to_owned()));
        }
        let line = Line { to_client: &self.to_client, stopped: taken_back };
        Ok(Held::Asked(self.guard.ask(&call, &caller, &tool, line).await, key))
    }

    /// Passes an approved call on: as it came, but with the arguments that an operator has written.
    async fn run(&self, text: &str, id: String, running: Running) {
        let text = as_approved(text, running.run.edited_arguments().as_deref());
        self.state().running.insert(id.clone(), running);
        if self.to_server.send(text).await.is_err() {
            let running = self.state().running.remove(&id);
            if let Some(Running { run, .. }) = running {
                run.give_up().await;
            }
        }
    }

    /// A message, or a batch of them, from the server.
    pub async fn said(&self, text: &str) {
        for part in unbatched(text) {
            let seen = Members::look(&part).map_or(Seen::Same, |members| self.seen(&members));
            match seen {
                Seen::Same => self.tell(part).await,
                Seen::Other(changed) => self.tell(changed).await,
                Seen::Own => {}
            }
        }
    }

    /// Learns from a message of the server.
    fn seen(&self, members: &Members<'_>) -> Seen {
        let mut state = self.state();
        match kind(members) {
            Kind::Notification { method } if method == "notifications/tools/list_changed" => state.catalog.forget(),
            Kind::Response { id } if is_own(&id) => {
                if let Some(asked) = state.own.remove(&id) {
                    drop(asked.send(members.get("result").map(|it| it.get().to_owned()).unwrap_or_default()));
                }
                return Seen::Own;
            }
            Kind::Response { id } => {
                if state.lists.remove(&id)
                    && let Some(result) = members.inner("result")
                {
                    state.catalog.learn(&result);
                }
                if let Some(running) = state.running.remove(&id) {
                    return self.ended(&mut state, members, running);
                }
            }
            _ => {}
        }
        Seen::Same
    }

    /// A response to an approved call.
    fn ended(&self, state: &mut State, members: &Members<'_>, running: Running) -> Seen {
        let result = members.inner("result");
        let kind = result.as_ref().and_then(|result| result.text("resultType"));
        match (kind.as_deref(), &result) {
            (Some("input_required"), Some(result)) => {
                // The same call comes again with what its client was asked for: it is still the one that was approved.
                let key = (running.key.clone(), result.text("requestState"));
                if state.continued.len() < MOST_CALLS {
                    state.continued.insert(key, running);
                }
                return Seen::Same;
            }
            // It runs on, and the server says later how it ended: it is on record as unknown.
            (Some("task"), _) => return Seen::Same,
            (_, Some(result)) if result.get("task").is_some() => return Seen::Same,
            _ => {}
        }
        // What the gateway says of a lost call is no word of the server: it is on record as unknown.
        if message::is_lost(members) {
            return Seen::Same;
        }
        let told =
            running.run.edited_arguments().zip(result).map(|(edited, result)| with_edit(members, &result, &edited));
        let (ended, note) = Run::end_of(members);
        self.reports.spawn(async move { running.run.ended(ended, note.as_deref()).await });
        told.map_or(Seen::Same, Seen::Other)
    }

    /// What the server says of a tool, read from its whole list.
    async fn looked_up(&self, name: &str, meta: Option<String>) -> Tool {
        let _one = self.listing.lock().await;
        let known = self.state().catalog.get(name);
        if let Some(tool) = known {
            return tool;
        }
        let mut cursor = None;
        for _ in 0..MOST_PAGES {
            let Some(result) = self.listed(cursor.take(), meta.as_deref()).await else {
                tracing::warn!("the server does not list its tools: all are asked about");
                break;
            };
            let mut state = self.state();
            cursor = Members::look(&result).and_then(|result| state.catalog.learn(&result));
            if cursor.is_none() {
                state.catalog.complete();
                break;
            }
        }
        self.state().catalog.get(name).unwrap_or_default()
    }

    async fn listed(&self, cursor: Option<String>, meta: Option<&str>) -> Option<String> {
        let id = format!("\"{OWN_ID}{}\"", Uuid::new_v4().simple());
        let (asked, answered) = oneshot::channel();
        self.state().own.insert(id.clone(), asked);
        let cursor = cursor.map(|cursor| format!("\"cursor\":{}", message::quoted(&cursor)));
        let meta = meta.map(|meta| format!("\"_meta\":{meta}"));
        let params = [cursor, meta].into_iter().flatten().collect::<Vec<_>>().join(",");
        self.pass(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{{params}}}}}"#)).await;
        let result = timeout(LIST_DEADLINE, answered).await;
        self.state().own.remove(&id);
        result.ok()?.ok().filter(|result| !result.is_empty())
    }

    /// The client is gone. Its calls do not wait any longer; their questions stay open, for the same calls again.
    pub fn hang_up(&self) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// What the client was told so far is on its way.
    pub async fn flushed(&self) {
        drop(self.to_client.reserve_many(self.to_client.max_capacity()).await);
    }

    /// The server is gone: calls that wait or run get an answer.
    pub async fn lose_server(&self) {
        self.hang_up();
        let open: Vec<String> = {
            let mut state = self.state();
            let held: Vec<String> = state.held.drain().map(|(id, _)| id).collect();
            held.into_iter().chain(state.running.drain().map(|(id, _)| id)).collect()
        };
        for id in open {
            self.tell(message::lost(&id, "the server has ended")).await;
        }
    }

    /// The client has lost the way back of this request: it does not wait any longer, and its question stays open.
    pub fn abandon(&self, id: &str) {
        if let Some(Stop { task: Some(task), .. }) = self.state().held.remove(id) {
            task.abort();
        }
    }

    /// The session is over: what has run is reported.
    pub async fn end(&self) {
        self.hang_up();
        self.reports.close();
        if timeout(REPORT_DEADLINE, self.reports.wait()).await.is_err() {
            tracing::warn!("some ends of calls were not reported in time");
        }
    }

    async fn pass(&self, text: String) {
        // The server is gone: so is the session, soon.
        drop(self.to_server.send(text).await);
    }

    async fn tell(&self, text: String) {
        drop(self.to_client.send(text).await);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a call that may have to be approved.
enum Held {
    /// Nobody has to be asked.
    Unasked,
    /// It was asked about, under this key.
    Asked(Verdict, String),
    /// It is one that was approved before, with the input that the server wanted.
    Continued(Running),
}

/// What becomes of a message of the server.
enum Seen {
    /// It passes on as it came.
    Same,
    /// This passes on in its place.
    Other(String),
    /// It answers the gateway itself.
    Own,
}

/// Whether an id is one of the gateway's own requests.
pub fn is_own(id: &str) -> bool {
    id.strip_prefix('"').is_some_and(|id| id.starts_with(OWN_ID))
}

/// The call as it runs: without what the gateway gave its client to send again, and with the arguments as approved.
pub fn as_approved(text: &str, arguments: Option<&str>) -> String {
    let Some(members) = Members::look(text) else { return text.to_owned() };
    let Some(params) = members.inner("params") else { return text.to_owned() };
    let is_ours = params.text("requestState").is_some_and(|state| is_own_state(&state));
    if arguments.is_none() && !is_ours {
        return text.to_owned();
    }
    let mut params = match arguments {
        Some(arguments) => params.with("arguments", arguments),
        None => members.get("params").map_or("{}", |params| params.get()).to_owned(),
    };
    for name in ["requestState", "inputResponses"].into_iter().filter(|_| is_ours) {
        params = Members::look(&params).map_or_else(String::new, |members| members.without(name));
    }
    members.with("params", &params)
}

/// A response that says which arguments it is about, where an operator had changed them.
pub fn with_edit(members: &Members<'_>, result: &Members<'_>, edited: &str) -> String {
    let note = format!("An operator changed the arguments of this call. It ran with: {edited}");
    let block = format!(r#"{{"type":"text","text":{}}}"#, message::quoted(&note));
    let content = result.get("content").map_or("[]", |content| content.get()).trim();
    let content = match content.strip_suffix(']') {
        Some(open) if open.trim_end() == "[" => format!("[{block}]"),
        Some(open) => format!("{open},{block}]"),
        None => return members.with("result", &result.with("content", content)),
    };
    members.with("result", &result.with("content", &content))
}

#[cfg(test)]
pub mod tests;
