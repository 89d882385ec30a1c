//! What the server says: read for what calls and tasks need, and passed on.

use relaytrace_client::Ended;
use serde_json::json;
use tokio::time::Instant;

use super::{InHand, Kept, Read, Running, Session, State, To, WITH_TASKS};
use crate::caller::TASKS;
use crate::guard::{Guard, Run};
use crate::is_own;
use crate::message::{self, Kind, Members, kind, quoted, unbatched};
use crate::tasks::{KEPT, PASSED_FOR, Phase};

/// Tells how a task is, in revision 2025-11-25 and in the extension.
const TASK_STATUS: [&str; 2] = ["notifications/tasks/status", "notifications/tasks"];

/// What becomes of a message of the server.
enum Seen {
    /// It passes on as it came.
    Same,
    /// This passes on in its place.
    Other(String),
    /// It is the gateway's own.
    Own,
}

impl Session {
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
        let other = match kind(members) {
            Kind::Notification { method } if method == "notifications/tools/list_changed" => {
                state.catalog.forget();
                None
            }
            Kind::Notification { method } if TASK_STATUS.contains(&method.as_str()) => {
                if let Some(params) = members.inner("params")
                    && let Some(task) = params.text("taskId")
                {
                    self.observed(&mut state, &task, &params);
                }
                None
            }
            Kind::Response { id } if is_own(&id) => return self.own(&mut state, &id, members),
            Kind::Response { id } if state.calls.contains_key(&id) => {
                tracing::warn!("the server answers a call that it has never got under this id: not passed on");
                return Seen::Own;
            }
            Kind::Response { id } => {
                let read = state.read.remove(&id);
                read.and_then(|read| self.response(&mut state, members, read))
            }
            Kind::Request { .. } | Kind::Notification { .. } | Kind::Other => None,
        };
        let named = match &other {
            None => state.tasks.to_client(members),
            Some(text) => Members::look(text).and_then(|members| state.tasks.to_client(&members)),
        };
        named.or(other).map_or(Seen::Same, Seen::Other)
    }

    /// A response to what the gateway has asked, or passed on under an id of its own.
    fn own(&self, state: &mut State, id: &str, members: &Members<'_>) -> Seen {
        if let Some(asked) = state.own.remove(id) {
            drop(asked.send(members.get("result").map(|it| it.get().to_owned()).unwrap_or_default()));
            return Seen::Own;
        }
        let Some(running) = state.running.remove(id) else { return Seen::Own };
        match running.to.clone() {
            To::Client(of_client) => self.ended(state, members, running, &of_client),
            To::Task(task) => {
                self.ended_task(state, members, running, &task);
                Seen::Own
            }
        }
    }

    /// A response to an approved call that its client waits for.
    fn ended(&self, state: &mut State, members: &Members<'_>, running: Running, id: &str) -> Seen {
        let result = members.inner("result");
        // Who has taken it back gets nothing.
        let told = |text: String, call: Option<InHand>| if call.is_some() { Seen::Other(text) } else { Seen::Own };
        let call = state.calls.remove(id);
        let response = members.with("id", id);
        match result.as_ref().map(further) {
            Some(Further::Input(request_state)) => {
                // The same call comes again with what its client was asked for: it is still the one that was approved.
                state.keep_continued((running.key.clone(), request_state), running);
                told(response, call)
            }
            Some(Further::Task(task)) => {
                state.keep_passed(task, running.run);
                told(response, call)
            }
            // What the gateway says of a lost call is no word of the server: it is on record as unknown.
            _ if message::is_lost(members) => told(response, call),
            _ => {
                let edited = running.run.edited_arguments().zip(result);
                let noted = edited.and_then(|(edited, result)| {
                    Members::look(&response).map(|members| with_edit(&members, &result, &edited))
                });
                let (ended, note) = Run::end_of(members);
                self.report(running.run, ended, note);
                told(noted.unwrap_or(response), call)
            }
        }
    }

    /// A response to an approved call that stands for a task.
    fn ended_task(&self, state: &mut State, members: &Members<'_>, running: Running, id: &str) {
        let result = members.inner("result");
        match result.as_ref().map(further) {
            Some(Further::Task(task)) => {
                state.tasks.pass(id, &task);
                state.keep_passed(task, running.run);
            }
            Some(Further::Input(request_state)) => {
                let requests = result.as_ref().and_then(|result| result.get("inputRequests"));
                let requests = requests.map_or("{}", |requests| requests.get()).to_owned();
                let phase = Phase::Asks { requests, state: request_state.map(|state| quoted(&state)) };
                if state.tasks.enter(id, phase) {
                    state.keep_continued((id.to_owned(), None), running);
                }
            }
            _ => {
                let edited = running.run.edited_arguments().zip(result.as_ref());
                let noted = edited.map(|(edited, result)| with_edit(members, result, &edited));
                let members = noted.as_deref().and_then(Members::look).unwrap_or_else(|| members.clone());
                let phase = match (members.get("result"), members.get("error")) {
                    (Some(result), _) => Phase::Completed(result.get().to_owned()),
                    (None, Some(error)) => Phase::Failed(error.get().to_owned()),
                    (None, None) => Phase::Failed(
                        json!({"code": message::INTERNAL_ERROR, "message": "the server answered nothing"}).to_string(),
                    ),
                };
                state.tasks.enter(id, phase);
                if !message::is_lost(&members) {
                    let (ended, note) = Run::end_of(&members);
                    self.report(running.run, ended, note);
                }
            }
        }
    }

    /// What passes on in place of a response to a request of the client's that is looked into; None: it is the same.
    fn response(&self, state: &mut State, members: &Members<'_>, read: Read) -> Option<String> {
        // An error to a request about a task is not the end of the task.
        let result = members.inner("result")?;
        let other = match read {
            Read::Initialize => {
                state.version = result.text("protocolVersion");
                let tasks = result.inner("capabilities").and_then(|capabilities| capabilities.inner("tasks"));
                state.server_has_tasks = tasks.is_some_and(|tasks| makes_tasks_of_calls(&tasks));
                (state.version.as_deref() == Some(WITH_TASKS)).then(|| with_capability(&result, &Read::Initialize))
            }
            Read::Discover => Some(with_capability(&result, &Read::Discover)),
            Read::Tools => {
                state.catalog.learn(&result);
                (state.version.as_deref() == Some(WITH_TASKS))
                    .then(|| with_task_support(&result, &self.guard, state))
                    .flatten()
            }
            Read::Tasks => {
                state.tidy();
                with_tasks(&result, state)
            }
            Read::Task(task) => {
                self.observed(state, &task, &result);
                None
            }
            Read::Result(task) => {
                let is_error = result.is_true("isError");
                self.over(state, &task, if is_error { Ended::Failed } else { Ended::Succeeded }, None);
                None
            }
        };
        other.map(|result| members.with("result", &result))
    }

    /// The end of a task of the server's, where its state tells one.
    fn observed(&self, state: &mut State, task: &str, told: &Members<'_>) {
        let message = told.text("statusMessage");
        let is_error = told.inner("result").is_some_and(|result| result.is_true("isError"));
        match told.text("status").as_deref() {
            Some("completed") if !is_error => self.over(state, task, Ended::Succeeded, message),
            Some("completed" | "failed") => self.over(state, task, Ended::Failed, message),
            Some("cancelled") => {
                self.over(state, task, Ended::Failed, message.or(Some("It was cancelled.".to_owned())));
            }
            // It goes on, or this says nothing of it: an acknowledgement has no status.
            _ => {}
        }
    }

    /// A task of the server's has ended so.
    fn over(&self, state: &mut State, task: &str, ended: Ended, note: Option<String>) {
        state.tasks.passed_is_over(task);
        if let Some(Kept { what: run, .. }) = state.passed.remove(task) {
            self.report(run, ended, note);
        }
    }

    pub(super) fn report(&self, run: Box<Run>, ended: Ended, note: Option<String>) {
        self.reports.spawn(async move { run.ended(ended, note.as_deref()).await });
    }
}

impl State {
    /// An approved call goes on as a task of the server's, whose end is seen later.
    fn keep_passed(&mut self, task: String, run: Box<Run>) {
        self.passed.insert(task, Kept { what: run, until: Instant::now() + PASSED_FOR });
    }

    /// An approved call goes on once its client has brought what the server wants.
    fn keep_continued(&mut self, key: (String, Option<String>), running: Running) {
        self.continued.insert(key, Kept { what: running, until: Instant::now() + KEPT });
    }
}

/// What is still to come of a call that was answered.
enum Further {
    /// Input of its client, with this `requestState`.
    Input(Option<String>),
    /// A task of the server's with this id.
    Task(String),
    /// Nothing.
    Nothing,
}

fn further(result: &Members<'_>) -> Further {
    let task = match result.text("resultType").as_deref() {
        Some("input_required") => return Further::Input(result.text("requestState")),
        Some("task") => result.text("taskId"),
        _ => result.inner("task").and_then(|task| task.text("taskId")),
    };
    task.map_or(Further::Nothing, Further::Task)
}

/// Whether a server that says this of its tasks makes some of calls.
fn makes_tasks_of_calls(tasks: &Members<'_>) -> bool {
    let requests = tasks.inner("requests").and_then(|requests| requests.inner("tools"));
    requests.is_some_and(|tools| tools.get("call").is_some())
}

/// A member of an object, as an object.
fn object<'a>(members: &Members<'a>, name: &str) -> Members<'a> {
    members.inner(name).unwrap_or_default()
}

/// What the server says that it can do, and that calls can be waited for by tasks.
fn with_capability(result: &Members<'_>, of: &Read) -> String {
    let capabilities = object(result, "capabilities");
    let (name, value) = if matches!(of, Read::Discover) {
        let extensions = object(&capabilities, "extensions");
        ("extensions", if extensions.get(TASKS).is_some() { return same(result) } else { extensions.with(TASKS, "{}") })
    } else {
        let mut tasks = object(&capabilities, "tasks").with("cancel", "{}");
        let members = Members::look(&tasks).unwrap_or_default();
        if !makes_tasks_of_calls(&members) {
            let requests = object(&members, "requests");
            let tools = object(&requests, "tools").with("call", "{}");
            tasks = members.with("requests", &requests.with("tools", &tools));
        }
        ("tasks", tasks)
    };
    result.with("capabilities", &capabilities.with(name, &value))
}

fn same(members: &Members<'_>) -> String {
    let parts: Vec<_> = members.all().map(|(name, value)| format!("{}:{}", quoted(name), value.get())).collect();
    format!("{{{}}}", parts.join(","))
}

/// A list of tools in which those that are asked about can be called as tasks; None: it is the same.
fn with_task_support(result: &Members<'_>, guard: &Guard, state: &State) -> Option<String> {
    let tools: Vec<Members<'_>> = serde_json::from_str(result.get("tools")?.get()).ok()?;
    let shown = tools.iter().map(|tool| {
        let known = tool.text("name").and_then(|name| state.catalog.get(&name));
        let execution = object(tool, "execution");
        let is_allowed = execution.text("taskSupport").is_some_and(|support| support != "forbidden");
        match known {
            Some(known) if guard.asks_about(&known) && !is_allowed => {
                tool.with("execution", &execution.with("taskSupport", r#""optional""#))
            }
            _ => same(tool),
        }
    });
    Some(result.with("tools", &format!("[{}]", shown.collect::<Vec<_>>().join(","))))
}

/// The last page of the server's tasks, with the gateway's.
fn with_tasks(result: &Members<'_>, state: &State) -> Option<String> {
    if result.text("nextCursor").is_some() {
        return None;
    }
    let listed: Vec<Members<'_>> = serde_json::from_str(result.get("tasks")?.get()).ok()?;
    let listed = listed.iter().map(|task| state.tasks.named(task).unwrap_or_else(|| same(task)));
    let own = state.tasks.own().map(|task| task.state(None));
    let all = listed.chain(own).collect::<Vec<_>>().join(",");
    Some(result.with("tasks", &format!("[{all}]")))
}

/// A response that says which arguments it is about, where an operator had changed them.
fn with_edit(members: &Members<'_>, result: &Members<'_>, edited: &str) -> String {
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
