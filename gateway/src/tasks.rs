//! Tasks of the gateway: a client calls a guarded tool, gets a task at once, and asks for its result later.
//!
//! Two forms of them exist: those of revision 2025-11-25, where a client asks for one (`task`), and the extension of
//! revision 2026-07-28, where the server decides. Both stand for one question at the relay, whose id is in the task's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::message::{INTERNAL_ERROR, Members, quoted};
use crate::told::RELATED_TASK;

/// Prefix of the ids of the gateway's tasks.
const PREFIX: &str = "relaytrace-task-";
/// Between two looks of a client, in milliseconds.
const POLL_INTERVAL_MS: u64 = 1_000;
/// How long a result is kept, and how long a client may take to bring what the server wants.
pub const KEPT: Duration = Duration::from_hours(1);
/// How long the end of a task of the server's is waited for.
pub const PASSED_FOR: Duration = Duration::from_hours(24);
/// Most bytes of results that are kept; the oldest go first, and the newest stays.
const MOST_KEPT: usize = 64 << 20;
/// What a result takes at the least, in bytes: it limits their number.
const LEAST_KEPT: usize = 64 << 10;
/// What hosts tell a model while a task goes on (MCP 2025-11-25, "Creating Tasks").
const IMMEDIATE: &str = "io.modelcontextprotocol/model-immediate-response";

/// How a client knows tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Revision 2025-11-25.
    Core,
    /// The extension of revision 2026-07-28.
    Extension,
}

/// How far a task is.
#[derive(Clone, Debug)]
pub enum Phase {
    /// A person thinks.
    Waiting {
        /// The page of the question.
        link: String,
        /// The client was asked to open it, and has answered.
        was_shown: bool,
    },
    /// It was approved, and the server works on it.
    Running,
    /// The server wants input of the client (revision 2026-07-28).
    Asks {
        /// `inputRequests`, as JSON.
        requests: String,
        /// `requestState`, as JSON.
        state: Option<String>,
    },
    /// The server has made a task of its own of it, with this id.
    Passed(String),
    /// It is over, with this result (JSON).
    Completed(String),
    /// It is over, with this JSON-RPC error (JSON).
    Failed(String),
    /// Its client has taken it back.
    Cancelled,
}

impl Phase {
    /// Whether nothing will change any more.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Failed(_) | Self::Cancelled)
    }

    /// Whether it is this gateway that works on it.
    fn is_live(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Running | Self::Asks { .. })
    }

    /// How long it is remembered; None: as long as it lasts.
    fn kept_for(&self) -> Option<Duration> {
        match self {
            Self::Waiting { .. } | Self::Running => None,
            Self::Passed(_) => Some(PASSED_FOR),
            Self::Asks { .. } | Self::Completed(_) | Self::Failed(_) | Self::Cancelled => Some(KEPT),
        }
    }

    /// The end of a task whose client did not bring in time what the server wanted.
    pub fn without_input() -> Self {
        Self::Failed(json!({"code": INTERNAL_ERROR, "message": "the input did not come in time"}).to_string())
    }

    fn bytes(&self) -> usize {
        if let Self::Completed(kept) | Self::Failed(kept) = self { kept.len() } else { 0 }
    }
}

/// A call that its client comes back for.
#[derive(Debug)]
pub struct Task {
    /// As its client names it.
    pub id: String,
    /// How its client knows it.
    pub form: Form,
    /// How far it is.
    pub phase: Phase,
    /// The call as it was approved (JSON), once it runs.
    pub call: String,
    /// The client takes it back.
    pub stop: CancellationToken,
    /// Wakes who waits for its result.
    pub changed: Arc<Notify>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    ttl: Duration,
    /// Its client was told that it is kept until then (`ttl`).
    promised: Instant,
    /// It may be forgotten then, if no more was promised.
    until: Option<Instant>,
}

impl Task {
    /// Of a question that may be answered until then.
    pub fn new(request_id: Uuid, form: Form, link: &str, respond_by: DateTime<Utc>) -> Self {
        let now = now();
        let ttl = kept_for(respond_by);
        Self {
            id: id_of(request_id),
            form,
            phase: Phase::Waiting { link: link.to_owned(), was_shown: false },
            call: String::new(),
            stop: CancellationToken::new(),
            changed: Arc::default(),
            created_at: now,
            updated_at: now,
            ttl,
            promised: Instant::now() + ttl,
            until: None,
        }
    }

    /// Goes on to another phase, unless it is over.
    pub fn enter(&mut self, phase: Phase) -> bool {
        if self.phase.is_over() {
            return false;
        }
        self.until = phase.kept_for().map(|kept| Instant::now() + kept);
        if !phase.is_live() {
            self.call.clear();
        }
        (self.phase, self.updated_at) = (phase, now());
        self.changed.notify_waiters();
        true
    }

    /// Until when its client may bring what the server wants.
    pub fn asks_until(&self) -> Option<Instant> {
        self.until.filter(|_| matches!(self.phase, Phase::Asks { .. }))
    }

    #[cfg(test)]
    pub fn set_due(&mut self, until: Instant) {
        self.until = Some(until);
    }

    /// The result of the call that began it (JSON).
    pub fn created(&self) -> String {
        let mut task = self.shown();
        if self.form == Form::Extension {
            task["resultType"] = json!("task");
            return task.to_string();
        }
        let text = format!("{} It goes on as the task {}.", message_of(&self.phase), self.id);
        json!({"task": task, "_meta": {IMMEDIATE: text}}).to_string()
    }

    /// The result of `tasks/get` (JSON), and of `tasks/cancel` of revision 2025-11-25. `asks_link`: what the client is to
    /// show to a person meanwhile.
    pub fn state(&self, asks_link: Option<Value>) -> String {
        let mut task = self.shown();
        if self.form == Form::Core {
            return task.to_string();
        }
        task["resultType"] = json!("complete");
        if let (Phase::Waiting { was_shown: false, .. }, Some(asked)) = (&self.phase, asks_link) {
            task["status"] = json!("input_required");
            task["inputRequests"] = json!({PREFIX.trim_end_matches('-'): asked});
        }
        let (name, value) = match &self.phase {
            Phase::Completed(result) => ("result", result),
            Phase::Failed(error) => ("error", error),
            Phase::Asks { requests, .. } => ("inputRequests", requests),
            _ => return task.to_string(),
        };
        Members::look(&task.to_string()).map(|members| members.with(name, value)).unwrap_or_default()
    }

    fn shown(&self) -> Value {
        let status = match &self.phase {
            Phase::Waiting { .. } | Phase::Running | Phase::Passed(_) => "working",
            Phase::Asks { .. } => "input_required",
            // A result that says `isError` is one, too: clients fetch results of completed tasks only.
            Phase::Completed(_) => "completed",
            Phase::Failed(_) => "failed",
            Phase::Cancelled => "cancelled",
        };
        let at = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let (ttl, interval) = match self.form {
            Form::Core => ("ttl", "pollInterval"),
            Form::Extension => ("ttlMs", "pollIntervalMs"),
        };
        json!({
            "taskId": self.id,
            "status": status,
            "statusMessage": message_of(&self.phase),
            "createdAt": at(self.created_at),
            "lastUpdatedAt": at(self.updated_at),
            (ttl): u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            (interval): POLL_INTERVAL_MS,
        })
    }
}

fn message_of(phase: &Phase) -> String {
    match phase {
        Phase::Waiting { link, .. } => format!("A person has to approve this call: {link}."),
        Phase::Running | Phase::Passed(_) => "It was approved, and the server works on it.".to_owned(),
        Phase::Asks { .. } => "The server wants further input.".to_owned(),
        Phase::Completed(_) => "It is over: its result says how.".to_owned(),
        Phase::Failed(error) => {
            let message = Members::look(error).and_then(|error| error.text("message"));
            message.unwrap_or_else(|| "It failed.".to_owned())
        }
        Phase::Cancelled => "Its client has taken it back.".to_owned(),
    }
}

/// The result of `tasks/result` (JSON): that of the call, with the task's id.
pub fn with_related(result: &str, id: &str) -> String {
    let Some(members) = Members::look(result) else { return result.to_owned() };
    let related = json!({"taskId": id}).to_string();
    let meta = members.inner("_meta").unwrap_or_default().with(RELATED_TASK, &related);
    members.with("_meta", &meta)
}

/// How long a task is kept whose question may be answered until then.
pub fn kept_for(respond_by: DateTime<Utc>) -> Duration {
    (respond_by - now()).to_std().unwrap_or_default() + KEPT
}

fn id_of(request_id: Uuid) -> String {
    format!("{PREFIX}{}", request_id.simple())
}

/// Whether a task is the gateway's.
pub fn is_own(id: &str) -> bool {
    id.starts_with(PREFIX)
}

/// The question that a task of the gateway's stands for.
pub fn request_of(id: &str) -> Option<Uuid> {
    let request_id = Uuid::try_parse(id.strip_prefix(PREFIX)?).ok()?;
    (id_of(request_id) == id).then_some(request_id)
}

/// The tasks of a session.
#[derive(Debug, Default)]
pub struct Tasks {
    all: HashMap<String, Task>,
    /// Ours by the server's.
    names: HashMap<String, String>,
}

impl Tasks {
    /// The task of this id.
    pub fn get(&self, id: &str) -> Option<&Task> {
        self.all.get(id)
    }

    /// The task of this id, to change it.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Task> {
        self.all.get_mut(id)
    }

    /// A task goes on to another phase, unless it is over. Older results make room for its own.
    pub fn enter(&mut self, id: &str, phase: Phase) -> bool {
        let takes_room = !phase.is_live();
        let has_entered = self.all.get_mut(id).is_some_and(|task| task.enter(phase));
        if has_entered && takes_room {
            self.make_room(Some(id));
        }
        has_entered
    }

    /// Adds a task, unless it is there, and drops results that are too old or too many.
    pub fn add(&mut self, task: Task) -> bool {
        self.make_room(None);
        if self.all.contains_key(&task.id) {
            return false;
        }
        self.all.insert(task.id.clone(), task);
        true
    }

    /// How many wait for a person.
    pub fn waiting(&self) -> usize {
        self.all.values().filter(|task| matches!(task.phase, Phase::Waiting { .. })).count()
    }

    /// All that the server does not list itself.
    pub fn own(&self) -> impl Iterator<Item = &Task> {
        self.all.values().filter(|task| !matches!(task.phase, Phase::Passed(_)))
    }

    /// The server has made a task of its own of this one.
    pub fn pass(&mut self, id: &str, of_server: &str) -> bool {
        let is_live = self.enter(id, Phase::Passed(of_server.to_owned()));
        if is_live {
            self.names.insert(of_server.to_owned(), id.to_owned());
        }
        is_live
    }

    /// A task of the server's is over; its client may still ask for the result.
    pub fn passed_is_over(&mut self, of_server: &str) {
        if let Some(task) = self.names.get(of_server).and_then(|id| self.all.get_mut(id)) {
            task.until = Some(Instant::now() + KEPT);
        }
    }

    /// A message of the server with the client's names of tasks; None: it is the same.
    pub fn to_client(&self, members: &Members<'_>) -> Option<String> {
        if self.names.is_empty() { None } else { renamed(members, |id| self.names.get(id).cloned()) }
    }

    /// A message of the client with the server's names of tasks; None: it is the same.
    pub fn to_server(&self, members: &Members<'_>) -> Option<String> {
        let of_server = |id: &str| match &self.all.get(id)?.phase {
            Phase::Passed(of_server) => Some(of_server.clone()),
            _ => None,
        };
        if self.names.is_empty() { None } else { renamed(members, of_server) }
    }

    /// A task of the server's with its client's name; None: it has none.
    pub fn named(&self, task: &Members<'_>) -> Option<String> {
        let ours = self.names.get(&task.text("taskId")?)?;
        Some(task.with("taskId", &quoted(ours)))
    }

    /// Fails what the server's input did not come for by now, and drops what was kept long enough.
    pub fn tidy(&mut self, now: Instant) {
        for task in self.all.values_mut().filter(|task| task.asks_until().is_some_and(|until| until <= now)) {
            task.enter(Phase::without_input());
        }
        let is_old = |task: &Task| task.until.is_some_and(|until| until.max(task.promised) < now);
        for (_, task) in self.all.extract_if(|_, task| is_old(task)) {
            task.changed.notify_waiters();
        }
        self.names.retain(|_, id| self.all.contains_key(id));
    }

    /// Drops what is too old, and results that are too many, but not the one of `newest`.
    fn make_room(&mut self, newest: Option<&str>) {
        self.tidy(Instant::now());
        let done = self.all.values().filter(|task| !task.phase.is_live());
        let mut done: Vec<_> =
            done.filter_map(|task| Some((task.until?, task.id.clone(), task.phase.bytes()))).collect();
        done.sort_unstable_by_key(|(until, id, _)| std::cmp::Reverse((newest == Some(id.as_str()), *until)));
        let mut kept = 0;
        for (_, id, bytes) in done {
            kept += bytes.max(LEAST_KEPT);
            if kept > MOST_KEPT {
                self.all.remove(&id);
            }
        }
        self.names.retain(|_, id| self.all.contains_key(id));
    }
}

/// A message with the ids of tasks in it replaced, where they stand by the protocol.
fn renamed(members: &Members<'_>, name: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = None;
    for part in ["params", "result"] {
        let Some(inner) = members.inner(part) else { continue };
        let mut changed: Option<String> = None;
        if let Some(id) = inner.text("taskId").and_then(|id| name(&id)) {
            changed = Some(inner.with("taskId", &quoted(&id)));
        }
        let related = inner.inner("_meta").and_then(|meta| Some((meta.inner(RELATED_TASK)?, meta)));
        if let Some((related, meta)) = related
            && let Some(id) = related.text("taskId").and_then(|id| name(&id))
        {
            let meta = meta.with(RELATED_TASK, &related.with("taskId", &quoted(&id)));
            let now = changed.as_deref().map_or_else(|| Some(inner.clone()), Members::look);
            changed = now.map(|inner| inner.with("_meta", &meta));
        }
        if let Some(changed) = changed {
            text = Some(members.with(part, &changed));
        }
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "a client compares it with its own clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(test)]
mod tests;
