//! Guarded calls whose clients wait by tasks: begun, looked at, taken back, and found again after a restart.

use std::sync::Arc;

use http::HeaderValue;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::guarded::{Question, params_of};
use super::{INVALID_PARAMS, MOST_CALLS, MOST_READ, Read, Running, Session, To};
use crate::caller::Caller;
use crate::guard::{Line, Turn, Verdict};
use crate::message::{self, INTERNAL_ERROR, Members, Unreadable, response};
use crate::tasks::{Form, Phase, Task, request_of, with_related};
use crate::told::{self, About};

/// JSON-RPC: there is no such method.
const METHOD_NOT_FOUND: i32 = -32601;
/// MCP 2026-07-28: the client has not declared what this needs.
const MISSING_CAPABILITY: i32 = -32021;

/// A request about one task.
struct Asked {
    text: String,
    id: String,
    method: String,
    task: String,
    form: Form,
    caller: Caller,
    shown: Option<HeaderValue>,
}

impl Session {
    /// Asks about a call, and answers with a task.
    pub(super) async fn begin_task(self: &Arc<Self>, text: String, id: String, form: Form, question: Question) {
        let Question { call, caller, tool, .. } = &question;
        let turn = match self.guard.begin(call, caller, tool).await {
            Ok(turn) => turn,
            Err(error) => {
                let result = told::refusal(&error, |id| self.guard.link(id), caller);
                let text = told::text_of(&result);
                return match form {
                    _ if !self.let_go(&id) => {}
                    Form::Extension => self.tell(response(&id, &result)).await,
                    Form::Core => self.tell(message::error(&id, INTERNAL_ERROR, &text)).await,
                };
            }
        };
        let (task, stop, created) = {
            let request = &turn.request;
            let link = self.guard.link(request.request_id);
            let task = Task::new(request.request_id, form, &link, request.respond_by);
            let made = (task.id.clone(), task.stop.clone(), task.created());
            self.state().tasks.add(task);
            made
        };
        // A client that has just taken the call back does not know the task.
        if self.let_go(&id) {
            self.tell(response(&id, &created)).await;
        } else {
            self.cancel_task(&task);
        }
        let line = Line { to_client: &self.to_client, stopped: &stop, task: Some(&task) };
        let verdict = self.guard.go_on(call, caller, &turn, line).await;
        let asked = (params_of(&text).and_then(|params| params.inner("_meta")), tool.digest.as_str());
        self.settle_task(&task, verdict, &text, asked, caller).await;
    }

    /// What comes of the question that a task stands for.
    async fn settle_task(
        &self,
        task: &str,
        verdict: Verdict,
        text: &str,
        (meta, digest): (Option<Members<'_>>, &str),
        caller: &Caller,
    ) {
        let run = match verdict {
            Verdict::Run(run) => run,
            Verdict::Answer(result) => return self.enter(task, Phase::Completed(result)),
            Verdict::Withdrawn => return self.cancel_task(task),
        };
        let name = params_of(text).and_then(|params| params.text("name")).unwrap_or_default();
        let tool = match self.as_asked(&run, &name, meta.as_ref(), digest, caller).await {
            Ok(tool) => tool,
            Err(result) => return self.enter(task, Phase::Completed(result)),
        };
        let passes_task = tool.runs_as_task && self.state().server_has_tasks;
        self.enter(task, Phase::Running);
        let running = Running { run, key: task.to_owned(), to: To::Task(task.to_owned()), until: None };
        self.forward(text, running, if passes_task && !caller.is_stateless { "" } else { "task" }).await;
    }

    fn enter(&self, task: &str, phase: Phase) {
        self.state().tasks.enter(task, phase);
    }

    fn cancel_task(&self, task: &str) {
        if let Some(task) = self.state().tasks.get_mut(task) {
            task.enter(Phase::Cancelled);
            task.stop.cancel();
        }
    }

    /// `tasks/…` about a task of the gateway's.
    pub(super) async fn task_asked(
        self: &Arc<Self>,
        text: &str,
        members: &Members<'_>,
        id: String,
        method: &str,
        task: String,
        shown: Option<&HeaderValue>,
    ) -> Result<(), Unreadable> {
        let meta = members.inner("params").and_then(|params| params.inner("_meta"));
        let caller = self.state().caller.or_of_request(meta.as_ref());
        let form = if caller.is_stateless { Form::Extension } else { Form::Core };
        if form == Form::Extension && !caller.takes_tasks {
            self.tell(message::error(&id, MISSING_CAPABILITY, "it needs the extension for tasks")).await;
            return Ok(());
        }
        if self.state().about_tasks() >= MOST_READ {
            return Err(Unreadable(format!("{MOST_READ} requests about tasks have no response")));
        }
        let (text, method, shown) = (text.to_owned(), method.to_owned(), shown.cloned());
        let asked = Asked { text, id, method, task, form, caller, shown };
        let taken_back = self.take_in_hand(&asked.id, true);
        let (session, id) = (self.clone(), asked.id.clone());
        self.wait_apart(&id, async move { session.answer_about_task(asked, taken_back).await });
        Ok(())
    }

    async fn answer_about_task(self: Arc<Self>, asked: Asked, taken_back: CancellationToken) {
        let known = {
            let mut state = self.state();
            state.tidy();
            state.tasks.get(&asked.task).is_some()
        };
        if !known && let Err(why) = self.recall_task(&asked).await {
            return self.refuse(&asked.id, INVALID_PARAMS, &why).await;
        }
        match (asked.form, asked.method.as_str()) {
            (_, "tasks/get") => self.look_at_task(&asked).await,
            (_, "tasks/cancel") => self.take_back_task(&asked).await,
            (Form::Core, "tasks/result") => self.wait_for_task(&asked, &taken_back).await,
            (Form::Extension, "tasks/update") => self.update_task(&asked).await,
            _ => self.refuse(&asked.id, METHOD_NOT_FOUND, "there is no such method").await,
        }
    }

    /// Passes a request about a task on to the server whose task it has become; false: it has not.
    async fn passed_on(&self, asked: &Asked) -> bool {
        let text = {
            let mut state = self.state();
            let of_server = state.tasks.get(&asked.task).map(|task| task.phase.clone());
            let Some(Phase::Passed(of_server)) = of_server else { return false };
            let text = Members::look(&asked.text).and_then(|members| state.tasks.to_server(&members));
            if state.calls.remove(&asked.id).is_none() {
                return true;
            }
            let is_result = asked.method == "tasks/result";
            let read = if is_result { Read::Result(of_server) } else { Read::Task(of_server) };
            state.read(asked.id.clone(), read).map(|()| text.unwrap_or_else(|| asked.text.clone()))
        };
        match text {
            Ok(text) => self.pass(text, asked.shown.as_ref()).await,
            Err(Unreadable(why)) => self.tell(message::error(&asked.id, INTERNAL_ERROR, &why)).await,
        }
        true
    }

    async fn look_at_task(&self, asked: &Asked) {
        if self.passed_on(asked).await {
            return;
        }
        let state = self.state().tasks.get(&asked.task).map(|task| task.state(self.link_to_show(task, &asked.caller)));
        match state {
            Some(state) => self.answer(&asked.id, &state).await,
            None => self.refuse(&asked.id, INVALID_PARAMS, "the task has expired").await,
        }
    }

    /// What a client that opens links is asked to show.
    fn link_to_show(&self, task: &Task, caller: &Caller) -> Option<serde_json::Value> {
        let request_id = request_of(&task.id).filter(|_| caller.opens_links)?;
        let link = self.guard.link(request_id);
        let params = told::link_elicitation(About { request_id, link: &link }, None);
        Some(json!({"method": "elicitation/create", "params": params}))
    }

    async fn take_back_task(&self, asked: &Asked) {
        if self.passed_on(asked).await {
            return;
        }
        let (cancelled, runs_as) = {
            let mut state = self.state();
            let is_it = |running: &Running| matches!(&running.to, To::Task(id) if *id == asked.task);
            let runs_as = state.running.iter().find(|(_, running)| is_it(running)).map(|(own, _)| own.clone());
            if let Some(own) = &runs_as {
                state.cancelled(own);
            }
            let task = state.tasks.get_mut(&asked.task);
            let cancelled = task.map(|task| {
                let was_live = task.enter(Phase::Cancelled);
                task.stop.cancel();
                (was_live, task.state(None))
            });
            (cancelled, runs_as)
        };
        if let Some(own) = runs_as {
            let params = json!({"reason": "its client has cancelled the task"}).to_string();
            let params = Members::look(&params).unwrap_or_default().with("requestId", &own);
            let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#);
            self.pass(text, asked.shown.as_ref()).await;
        }
        match (cancelled, asked.form) {
            (Some((true, state)), Form::Core) => self.answer(&asked.id, &state).await,
            (Some(_), Form::Extension) => self.answer(&asked.id, r#"{"resultType":"complete"}"#).await,
            _ => self.refuse(&asked.id, INVALID_PARAMS, "the task is over").await,
        }
    }

    /// `tasks/result`: as soon as there is one.
    async fn wait_for_task(&self, asked: &Asked, taken_back: &CancellationToken) {
        let changed = self.state().tasks.get(&asked.task).map(|task| task.changed.clone()).unwrap_or_default();
        loop {
            // Whatever changes after this look at it wakes.
            let mut notified = std::pin::pin!(changed.notified());
            notified.as_mut().enable();
            if self.passed_on(asked).await {
                return;
            }
            let found = self.state().tasks.get(&asked.task).map(|task| (task.phase.clone(), task.asks_until()));
            let Some((phase, asks_until)) = found else {
                return self.refuse(&asked.id, INVALID_PARAMS, "the task has expired").await;
            };
            match phase {
                Phase::Completed(result) => return self.answer(&asked.id, &with_related(&result, &asked.task)).await,
                Phase::Failed(error) => {
                    if self.let_go(&asked.id) {
                        self.tell(message::failed(&asked.id, &error)).await;
                    }
                    return;
                }
                Phase::Cancelled => return self.refuse(&asked.id, INVALID_PARAMS, "the task was cancelled").await,
                // It was passed on after the first look.
                Phase::Passed(_) => continue,
                Phase::Waiting { .. } | Phase::Running | Phase::Asks { .. } => {}
            }
            tokio::select! {
                () = notified => {}
                () = sleep_until(asks_until.unwrap_or_else(Instant::now)), if asks_until.is_some() => self.state().tidy(),
                () = taken_back.cancelled() => {
                    self.let_go(&asked.id);
                    return;
                }
            }
        }
    }

    /// `tasks/update`: the client has shown the page, or brings what the server wanted.
    async fn update_task(&self, asked: &Asked) {
        if self.passed_on(asked).await {
            return;
        }
        let answers = params_of(&asked.text).and_then(|params| params.get("inputResponses"));
        let answers = answers.map_or("{}", |answers| answers.get());
        let goes_on = {
            let mut state = self.state();
            let kept = state.continued.remove(&(asked.task.clone(), None));
            match state.tasks.get_mut(&asked.task).map(|task| (task.phase.clone(), task)) {
                Some((Phase::Waiting { link, .. }, task)) => {
                    task.enter(Phase::Waiting { link, was_shown: true });
                    None
                }
                Some((Phase::Asks { state, .. }, task)) => {
                    let text = with_input(&task.call, answers, state.as_deref());
                    task.enter(if kept.is_some() { Phase::Running } else { Phase::without_input() });
                    kept.map(|kept| (kept.what, text))
                }
                _ => None,
            }
        };
        self.answer(&asked.id, r#"{"resultType":"complete"}"#).await;
        if let Some((running, text)) = goes_on {
            self.forward(&text, running, "").await;
        }
    }

    /// Finds the question of a task of which this session knows nothing, and goes on waiting for it.
    async fn recall_task(self: &Arc<Self>, asked: &Asked) -> Result<(), String> {
        // Whose it is, is not told: but it may be this client's own, by a token that it has no more.
        let unknown = || {
            "there is no such task of this principal at this server; if there was, its call may have run: find out before \
             you call the tool again"
                .to_owned()
        };
        let request_id = request_of(&asked.task).ok_or_else(unknown)?;
        let turn = self
            .guard
            .recall(request_id, &asked.caller)
            .await
            .map_err(|error| error.to_string())?
            .ok_or_else(unknown)?;
        let link = self.guard.link(request_id);
        let task = Task::new(request_id, asked.form, &link, turn.request.respond_by);
        let stop = task.stop.clone();
        {
            let mut state = self.state();
            if state.under_way() >= MOST_CALLS {
                return Err(format!("{MOST_CALLS} calls are under way"));
            }
            // Another request has just recalled it.
            if !state.tasks.add(task) {
                return Ok(());
            }
        }
        let (session, task, caller) = (self.clone(), asked.task.clone(), asked.caller.clone());
        let text = asked.text.clone();
        self.waiting().spawn(async move { session.go_on_recalled(&task, &turn, &caller, &text, &stop).await });
        Ok(())
    }

    async fn go_on_recalled(&self, task: &str, turn: &Turn, caller: &Caller, text: &str, stop: &CancellationToken) {
        let line = Line { to_client: &self.to_client, stopped: stop, task: Some(task) };
        let (verdict, resumed) = self.guard.go_on_recalled(turn, caller, line).await;
        let (params, digest) = resumed.unwrap_or_default();
        // A stateless client says with each request how it speaks; the rest of `_meta` is the call's own.
        let meta = params_of(text).and_then(|params| params.inner("_meta")).filter(|_| caller.is_stateless);
        let call = recalled(&params, meta.as_ref());
        self.settle_task(task, verdict, &call, (meta, &digest), caller).await;
    }
}

/// The call of these params, said as the client speaks now (`_meta`).
fn recalled(params: &str, meta: Option<&Members<'_>>) -> String {
    let Some(params) = Members::look(params) else { return String::new() };
    let mut own = params.inner("_meta").unwrap_or_default().without("progressToken");
    for (name, value) in meta.into_iter().flat_map(Members::all).filter(|(name, _)| *name != "progressToken") {
        own = Members::look(&own).unwrap_or_default().with(name, value.get());
    }
    let params = if own == "{}" { params.without("_meta") } else { params.with("_meta", &own) };
    let params = Members::look(&params).unwrap_or_default().with("task", "{}");
    format!(r#"{{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{params}}}"#)
}

/// A call with the input that the server wanted.
fn with_input(call: &str, answers: &str, request_state: Option<&str>) -> String {
    let Some(members) = Members::look(call) else { return String::new() };
    let Some(params) = members.inner("params") else { return String::new() };
    let mut params = params.with("inputResponses", answers);
    if let Some(state) = request_state {
        params = Members::look(&params).unwrap_or_default().with("requestState", state);
    }
    members.with("params", &params)
}
