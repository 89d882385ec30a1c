//! Calls that have to be approved: asked about, held, and passed on once they are.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{INVALID_PARAMS, InHand, MOST_CALLS, Running, Session, To, WITH_TASKS, list_of_tools};
use crate::caller::Caller;
use crate::catalog::Tool;
use crate::child::Outgoing;
use crate::guard::{Line, Run, Verdict};
use crate::message::{self, Members, Unreadable, response};
use crate::own_id;
use crate::question::Call;
use crate::tasks::Form;
use crate::told::{self, is_own_state};

/// How long the server may take to list its tools, all pages of them.
const LIST_DEADLINE: Duration = Duration::from_secs(10);
/// Most pages of that list.
pub const MOST_PAGES: usize = 100;

/// A call that somebody is asked about.
#[derive(Debug)]
pub struct Question {
    pub call: Call,
    pub caller: Caller,
    pub tool: Tool,
    pub key: String,
}

/// What becomes of a call that may have to be approved.
enum Next {
    /// Nobody has to be asked.
    Unasked,
    /// Somebody has to be asked.
    Ask(Box<Question>),
    /// It is one that was approved before, with the input that the server wanted.
    Continued(Running),
}

impl Session {
    /// `tools/call`: passes on at once, or waits in a task of its own.
    pub(super) async fn call(
        self: &Arc<Self>,
        text: &str,
        members: &Members<'_>,
        id: String,
        shown: Option<&HeaderValue>,
    ) -> Result<(), Unreadable> {
        let params = Members::read(members.get("params").map_or("{}", |params| params.get()))?;
        let tool = params.text("name").and_then(|name| self.state().catalog.get(&name));
        if tool.as_ref().is_some_and(|tool| !self.guard.asks_about(tool)) {
            self.pass(text.to_owned(), shown).await;
            return Ok(());
        }
        if self.state().under_way() >= MOST_CALLS {
            return Err(Unreadable(format!("{MOST_CALLS} calls are under way")));
        }
        let taken_back = self.take_in_hand(&id, false);
        let (session, text, of, shown) = (self.clone(), text.to_owned(), id.clone(), shown.cloned());
        self.wait_apart(&id, async move { session.hold(text, of, tool, taken_back, shown).await });
        Ok(())
    }

    /// A request of the client's that the gateway answers.
    pub(super) fn take_in_hand(&self, id: &str, is_about_task: bool) -> CancellationToken {
        let taken_back = CancellationToken::new();
        let call = InHand { taken_back: taken_back.clone(), task: None, runs_as: None, is_about_task };
        self.state().calls.insert(id.to_owned(), call);
        taken_back
    }

    /// Works on such a request in a task of its own.
    pub(super) fn wait_apart(&self, id: &str, work: impl Future<Output = ()> + Send + 'static) {
        let mut waiting = self.waiting();
        while waiting.try_join_next().is_some() {}
        let task = waiting.spawn(work);
        if let Some(call) = self.state().calls.get_mut(id) {
            call.task = Some(task);
        }
    }

    /// Whether somebody still wants the answer to such a request; nobody does from now on.
    pub(super) fn let_go(&self, id: &str) -> bool {
        self.state().calls.remove(id).is_some()
    }

    /// A call that may have to be approved.
    async fn hold(
        self: Arc<Self>,
        text: String,
        id: String,
        tool: Option<Tool>,
        taken_back: CancellationToken,
        shown: Option<HeaderValue>,
    ) {
        let Some(params) = Members::look(&text).and_then(|members| members.inner("params")) else {
            self.let_go(&id);
            return self.tell(message::error(&id, INVALID_PARAMS, "params of tools/call are no object")).await;
        };
        let form = self.form_of_task(&params);
        match self.next(&params, tool, form).await {
            Err(Unreadable(why)) => self.refuse(&id, INVALID_PARAMS, &why).await,
            Ok(Next::Unasked) => {
                if self.let_go(&id) {
                    self.pass(text, shown.as_ref()).await;
                }
            }
            Ok(Next::Continued(running)) => {
                self.forward(&text, Running { to: To::Client(id), until: None, ..running }, "").await;
            }
            Ok(Next::Ask(question)) => match form {
                Some(form) => self.begin_task(text, id, form, *question).await,
                None => self.ask(&text, id, *question, &taken_back).await,
            },
        }
    }

    /// Whether the client of this call waits by a task: it says so with each call, up to revision 2025-11-25 by `task`.
    fn form_of_task(&self, params: &Members<'_>) -> Option<Form> {
        let state = self.state();
        let caller = state.caller.or_of_request(params.inner("_meta").as_ref());
        let wants = params.get("task").is_some_and(|task| task.get().starts_with('{'));
        match (caller.is_stateless, state.version.as_deref()) {
            (true, _) if caller.takes_tasks => Some(Form::Extension),
            (false, Some(WITH_TASKS)) if wants => Some(Form::Core),
            _ => None,
        }
    }

    async fn next(&self, params: &Members<'_>, tool: Option<Tool>, form: Option<Form>) -> Result<Next, Unreadable> {
        let meta = params.inner("_meta");
        let tool = match tool {
            Some(tool) => tool,
            None => self.looked_up(&params.text("name").unwrap_or_default(), meta.as_ref()).await,
        };
        if !self.guard.asks_about(&tool) {
            return Ok(Next::Unasked);
        }
        let call = Call::read(&self.guard.asking, params, form.is_some())?;
        let caller = self.state().caller.or_of_request(meta.as_ref());
        let key = call.key(&self.guard.asking, &caller.principal);
        let is_ours = call.state.as_deref().is_some_and(is_own_state);
        if !is_ours && params.get("inputResponses").or(params.get("requestState")).is_some() {
            // What goes on with a call that was approved runs with it; nobody could judge it alone.
            let continued = self.state().continued.remove(&(key, call.state));
            let why = "it goes on with a call that was not approved here: call the tool without requestState";
            return continued.map(|kept| Next::Continued(kept.what)).ok_or_else(|| Unreadable(why.to_owned()));
        }
        Ok(Next::Ask(Box::new(Question { call, caller, tool, key })))
    }

    /// Asks about a call whose client waits for the response, and answers it.
    async fn ask(&self, text: &str, id: String, question: Question, taken_back: &CancellationToken) {
        let Question { call, caller, tool, key } = question;
        let line = Line { to_client: &self.to_client, stopped: taken_back, task: None };
        match self.guard.ask(&call, &caller, &tool, line).await {
            Verdict::Run(run) => {
                let meta = params_of(text).and_then(|params| params.inner("_meta"));
                match self.as_asked(&run, &call.tool, meta.as_ref(), &tool.digest, &caller).await {
                    Ok(_) => self.forward(text, Running { run, key, to: To::Client(id), until: None }, "").await,
                    Err(result) => self.answer(&id, &result).await,
                }
            }
            Verdict::Answer(result) => self.answer(&id, &result).await,
            Verdict::Withdrawn => {
                self.let_go(&id);
            }
        }
    }

    /// The tool of an approved call, if it is still the one that was asked about; else the result of a call that does not
    /// run.
    pub(super) async fn as_asked(
        &self,
        run: &Run,
        name: &str,
        meta: Option<&Members<'_>>,
        digest: &str,
        caller: &Caller,
    ) -> Result<Tool, String> {
        let tool = self.looked_up(name, meta).await;
        if tool.digest == digest {
            return Ok(tool);
        }
        run.give_up("the server had changed the tool").await;
        let request_id = run.request_id();
        Err(told::changed(request_id, &self.guard.link(request_id), caller))
    }

    pub(super) async fn answer(&self, id: &str, result: &str) {
        if self.let_go(id) {
            self.tell(response(id, result)).await;
        }
    }

    pub(super) async fn refuse(&self, id: &str, code: i32, why: &str) {
        if self.let_go(id) {
            self.tell(message::error(id, code, why)).await;
        }
    }

    /// Passes an approved call on: as it came, but under an id of the gateway's, without this member of its params, and
    /// with the arguments that an operator has written.
    ///
    /// No other request has that id: what ends this call is the response to it, whatever ids the client uses.
    pub(super) async fn forward(&self, text: &str, running: Running, without: &str) {
        let own = own_id();
        let mut text = as_approved(text, running.run.edited_arguments().as_deref());
        if let Some(params) = params_of(&text).filter(|params| params.get(without).is_some()) {
            let params = params.without(without);
            text = Members::look(&text).map(|members| members.with("params", &params)).unwrap_or_default();
        }
        text = Members::look(&text).map(|members| members.with("id", &own)).unwrap_or_default();
        let unwanted = {
            let mut state = self.state();
            let is_wanted = match &running.to {
                To::Client(id) => state.calls.get_mut(id).map(|call| call.runs_as = Some(own.clone())).is_some(),
                To::Task(id) => state.tasks.get(id).is_some_and(|task| !task.phase.is_over()),
            };
            if is_wanted {
                if let To::Task(id) = &running.to
                    && let Some(task) = state.tasks.get_mut(id)
                {
                    task.call.clone_from(&text);
                }
                state.running.insert(own.clone(), running);
                None
            } else {
                Some(running)
            }
        };
        if let Some(unwanted) = unwanted {
            return unwanted.run.give_up("its client had taken it back").await;
        }
        if self.to_server.send(Outgoing { text, shown: None }).await.is_err() {
            let running = self.state().running.remove(&own);
            if let Some(Running { run, .. }) = running {
                run.give_up("its server had gone").await;
            }
        }
    }

    /// What the server says of a tool, read from its whole list.
    async fn looked_up(&self, name: &str, meta: Option<&Members<'_>>) -> Tool {
        let _one = self.listing.lock().await;
        let known = self.state().catalog.get(name);
        if let Some(tool) = known {
            return tool;
        }
        let deadline = Instant::now() + LIST_DEADLINE;
        let mut cursor = None;
        for _ in 0..MOST_PAGES {
            let Some(result) = self.listed(cursor.take(), meta, deadline).await else {
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

    async fn listed(&self, cursor: Option<String>, meta: Option<&Members<'_>>, deadline: Instant) -> Option<String> {
        let id = own_id();
        let (asked, answered) = oneshot::channel();
        self.state().own.insert(id.clone(), asked);
        self.pass(list_of_tools(&id, cursor.as_deref(), meta), None).await;
        let result = timeout_at(deadline, answered).await;
        self.state().own.remove(&id);
        result.ok()?.ok().filter(|result| !result.is_empty())
    }
}

/// The params of a message.
pub fn params_of(text: &str) -> Option<Members<'_>> {
    Members::look(text)?.inner("params")
}

/// The call as it runs: without what the gateway gave its client to send again, and with the arguments as approved.
fn as_approved(text: &str, arguments: Option<&str>) -> String {
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
