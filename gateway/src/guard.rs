//! Whether a tool call runs: asks the relay, waits as long as the client can, uses the approval up.
//!
//! A guarded call runs after [`Verdict::Run`] was returned for it, and only then. Whatever fails is a refusal.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relaytrace_client::{Client, Decision, Ended, Envelope, Error, NotApproved, PermitInUse, RequestState, Said, Why};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::caller::Caller;
use crate::catalog::Tool;
use crate::message::Members;
use crate::own_id;
use crate::question::{Asking, Call, keys_of, resumed};
use crate::tasks::kept_for;
use crate::told::{self, About};

/// Between two signs of life of a call that is held.
const TICK: Duration = Duration::from_secs(10);
/// What the calls to the relay may take beyond the time that the client can wait.
const MARGIN: Duration = Duration::from_secs(8);
/// How many of the newest equal calls are looked at for one that was not told its answer.
const LOOK_BACK: u32 = 8;
/// How often a call whose approval another one used first is asked anew.
const MOST_TURNS: u32 = 8;
/// How many equal calls are looked at before one is refused.
const MOST_EQUAL: usize = 256;
/// Code of the refusal of a key that stands for another envelope.
const KEY_REUSED: &str = "idempotency-key-reused";
/// `status` of a request without a decision.
const PENDING: &str = "pending";
/// `execution` of an approval that can be used.
const USABLE: &str = "waiting";
/// `execution` of an approval that cannot be used any more.
const UNUSED: &str = "unused";

/// Which calls are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// All: the tenant's rules say which need a person.
    All,
    /// All but those of tools that say that they change nothing (`readOnlyHint`).
    Writes,
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Verdict {
    /// It runs, now and once.
    Run(Box<Run>),
    /// The client gets this result instead (JSON).
    Answer(String),
    /// Its client has taken it back, and gets nothing.
    Withdrawn,
}

/// An approval that was used up for a call that is about to run.
#[derive(Debug)]
pub struct Run {
    permit: PermitInUse,
}

impl Run {
    /// The arguments in place of those that were sent (JSON), where an operator has changed them.
    pub fn edited_arguments(&self) -> Option<String> {
        self.permit.decision.edited.then(|| self.permit.action.arguments.to_string())
    }

    /// How a call ended, as the server's response says it.
    pub fn end_of(response: &Members<'_>) -> (Ended, Option<String>) {
        let result = response.inner("result");
        match result {
            Some(result) if !result.is_true("isError") => (Ended::Succeeded, None),
            Some(_) => (Ended::Failed, Some("The tool returned an error (isError).".to_owned())),
            None => {
                let error = response.inner("error").and_then(|error| error.text("message"));
                (Ended::Failed, Some(error.unwrap_or_else(|| "The server's response has no result.".to_owned())))
            }
        }
    }

    /// The approval was used up, and nothing ran.
    pub async fn give_up(&self, why: &str) {
        self.ended(Ended::Failed, Some(&format!("It did not run: {why}."))).await;
    }

    /// The question that was approved.
    pub fn request_id(&self) -> Uuid {
        self.permit.request.request_id
    }

    /// Says how it ended. What is lost is on record as unknown.
    pub async fn ended(&self, ended: Ended, note: Option<&str>) {
        if let Err(lost) = self.permit.report(ended, note).await {
            tracing::warn!(request.id = %self.permit.request.request_id, "the end of a call was not reported: {lost}");
        }
    }
}

/// Asks about the calls of every client of one server.
#[derive(Debug)]
pub struct Guard {
    client: Client,
    /// How calls are asked about.
    pub asking: Asking,
    asks: Asks,
    hold: Option<Duration>,
    page: String,
    live: Arc<Mutex<HashSet<String>>>,
}

/// One of several equal calls, while this process works on it.
#[derive(Debug)]
pub struct Turn {
    /// Its question.
    pub request: RequestState,
    ordinal: u32,
    _live: Option<Live>,
}

/// The key of a call that this process works on.
#[derive(Debug)]
struct Live(Arc<Mutex<HashSet<String>>>, String);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// How a call is held.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// Messages to the client go there.
    pub to_client: &'a mpsc::Sender<String>,
    /// The client takes the call back.
    pub stopped: &'a CancellationToken,
    /// The task by which the client waits, if it does.
    pub task: Option<&'a str>,
}

impl Guard {
    /// Of a relay with its page at `page`. `hold`: how long calls are held, where it is not the client's limit.
    #[must_use]
    pub fn new(client: Client, asking: Asking, asks: Asks, hold: Option<Duration>, page: &str) -> Self {
        Self { client, asking, asks, hold, page: page.trim_end_matches('/').to_owned(), live: Arc::default() }
    }

    /// Whether calls of this tool are asked about.
    pub(crate) fn asks_about(&self, tool: &Tool) -> bool {
        self.asks == Asks::All || !tool.is_read_only()
    }

    /// Asks about a call, waits, and uses the approval up.
    pub(crate) async fn ask(&self, call: &Call, caller: &Caller, tool: &Tool, line: Line<'_>) -> Verdict {
        let limit = self.hold.unwrap_or_else(|| caller.can_wait(call.progress_token.is_some()));
        let until = Instant::now() + limit;
        let envelope = call.envelope(&self.asking, caller, tool);
        let permit = timeout_at(until + MARGIN, self.permit(call, caller, &envelope, until, &line));
        let used = permit.await.unwrap_or_else(|_| Err(too_late().into()));
        self.verdict(used, &call.tool, caller)
    }

    async fn permit(
        &self,
        call: &Call,
        caller: &Caller,
        envelope: &Envelope,
        until: Instant,
        line: &Line<'_>,
    ) -> Result<PermitInUse, Stop> {
        let (mut last, mut turns) = (0, 0);
        loop {
            let turn = self.turn(envelope, last).await?;
            (last, turns) = (turn.ordinal, turns + 1);
            match self.used(call, caller, &turn.request, Some(until), line).await {
                Err(Stop::Error(Error::NotApproved(refused)))
                    if turns < MOST_TURNS && matches!(refused.why, Why::AlreadyUsed | Why::PermitExpired) => {}
                used => return used,
            }
        }
    }

    /// Waits for the answer to this question, and uses the approval up.
    async fn used(
        &self,
        call: &Call,
        caller: &Caller,
        request: &RequestState,
        until: Option<Instant>,
        line: &Line<'_>,
    ) -> Result<PermitInUse, Stop> {
        let decision = match &request.decision {
            Some(decision) => decision.clone(),
            None => self.decided(call, caller, request, until, line).await?,
        };
        let decision = self.approved(request, decision).await?;
        if line.stopped.is_cancelled() {
            return Err(Stop::Withdrawn);
        }
        let used = self.client.consume(request, &decision, &call.action).await;
        if let Err(Error::NotApproved(refused)) = &used
            && matches!(refused.why, Why::PermitExpired | Why::PermitRevoked(_))
        {
            // It cannot be used any more: nobody needs to be told of it again.
            self.settle(&decision).await;
        }
        Ok(used?)
    }

    /// The decision on this question, if it is an approval; else its delivery ends.
    async fn approved(&self, request: &RequestState, decision: Decision) -> Result<Decision, Stop> {
        let Some(why) = Why::of(&decision) else { return Ok(decision) };
        self.settle(&decision).await;
        Err(Stop::Error(Error::NotApproved(Box::new(NotApproved {
            request_id: request.request_id,
            client_request_key: request.client_request_key.clone(),
            why,
            decision: Some(decision),
        }))))
    }

    /// Asks about a call whose client waits by a task: [`Guard::go_on`] waits for the answer.
    pub(crate) async fn begin(&self, call: &Call, caller: &Caller, tool: &Tool) -> Result<Turn, Error> {
        let envelope = call.envelope(&self.asking, caller, tool);
        timeout(MARGIN, self.turn(&envelope, 0)).await.unwrap_or_else(|_| Err(too_late()))
    }

    /// Waits for the answer to a question that was asked by [`Guard::begin`], as long as people have for it.
    pub(crate) async fn go_on(&self, call: &Call, caller: &Caller, turn: &Turn, line: Line<'_>) -> Verdict {
        let used = self.used(call, caller, &turn.request, None, &line).await;
        self.verdict(used, &call.tool, caller)
    }

    /// A question of which this process knows nothing but its id; None: there is none of this caller's to this server.
    pub(crate) async fn recall(&self, request_id: Uuid, caller: &Caller) -> Result<Option<Turn>, Error> {
        let keys = keys_of(&self.asking, &caller.principal);
        match timeout(MARGIN, self.client.request(request_id)).await.unwrap_or_else(|_| Err(too_late())) {
            Ok(request) if !request.client_request_key.starts_with(&keys) => Ok(None),
            Ok(request) => {
                let live = self.live(&request.client_request_key);
                Ok(Some(Turn { request, ordinal: 0, _live: live }))
            }
            Err(Error::Refused(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the answer to a question that was recalled. The call comes back with it, if it is kept with its question:
    /// its params, and the digest of the tool that was asked about.
    pub(crate) async fn go_on_recalled(
        &self,
        turn: &Turn,
        caller: &Caller,
        line: Line<'_>,
    ) -> (Verdict, Option<(String, String)>) {
        let request = &turn.request;
        let decision = match &request.decision {
            Some(decision) => Ok(decision.clone()),
            None => self.waited(request, None, &line, &mut |_| {}).await,
        };
        let decision = match decision {
            Ok(decision) => decision,
            Err(stop) => return (self.verdict(Err(stop), "", caller), None),
        };
        let resumed = resumed(decision.resume.as_ref());
        let call = resumed.as_ref().and_then(|(params, _)| Members::look(params));
        let call = call.and_then(|params| Call::read(&self.asking, &params, true).ok());
        let base = request.client_request_key.rsplit_once(':').map(|(base, _)| base);
        let Some(call) = call.filter(|call| Some(call.key(&self.asking, &caller.principal).as_str()) == base) else {
            return (self.not_kept(request, decision, caller).await, None);
        };
        let decided = RequestState { decision: Some(decision), ..request.clone() };
        let used = self.used(&call, caller, &decided, None, &line).await;
        (self.verdict(used, &call.tool, caller), resumed)
    }

    /// The decision on a call that is not kept with its question.
    async fn not_kept(&self, request: &RequestState, decision: Decision, caller: &Caller) -> Verdict {
        if let Err(stop) = self.approved(request, decision).await {
            return self.verdict(Err(stop), "", caller);
        }
        let now = timeout(MARGIN, self.client.request(request.request_id)).await;
        let execution = now.map(|now| now.map(|now| now.execution).unwrap_or_default()).unwrap_or_default();
        let link = self.link(request.request_id);
        let about = About { request_id: request.request_id, link: &link };
        Verdict::Answer(told::not_kept(about, &execution, caller))
    }

    fn verdict(&self, used: Result<PermitInUse, Stop>, tool: &str, caller: &Caller) -> Verdict {
        match used {
            Ok(permit) => Verdict::Run(Box::new(Run { permit })),
            Err(Stop::Withdrawn) => Verdict::Withdrawn,
            Err(Stop::Shown(result)) => Verdict::Answer(result),
            Err(Stop::Error(error)) => {
                tracing::info!(tool, "not run: {error}");
                Verdict::Answer(told::refusal(&error, |id| self.link(id), caller))
            }
        }
    }

    /// Waits for a person, with signs of life for the client.
    async fn decided(
        &self,
        call: &Call,
        caller: &Caller,
        request: &RequestState,
        until: Option<Instant>,
        line: &Line<'_>,
    ) -> Result<Decision, Stop> {
        let link = self.link(request.request_id);
        let about = About { request_id: request.request_id, link: &link };
        tracing::info!(request.id = %request.request_id, tool = call.tool, "waiting for a person: {link}");
        let was_shown = call.state.as_deref().is_some_and(told::is_own_state);
        if caller.opens_links && caller.is_stateless && !was_shown && line.task.is_none() {
            return Err(Stop::Shown(told::input_required(about)));
        }
        let opened = (caller.opens_links && !caller.is_stateless).then(|| elicitation(about, line));
        // A task of revision 2026-07-28 has no progress.
        let token = call.progress_token.as_ref().filter(|_| !(caller.is_stateless && line.task.is_some()));
        let mut tell = |ticked: u32| {
            if let Some(token) = token {
                // A client that does not read misses some.
                drop(line.to_client.try_send(told::progress(token, ticked, about)));
            }
        };
        let decision = self.waited(request, until, line, &mut tell).await;
        if opened.is_some() && decision.is_ok() {
            let done = told::elicitation_complete(about);
            drop(line.to_client.try_send(done));
        }
        decision
    }

    /// Waits until it is decided, until then, or until the client takes it back.
    async fn waited(
        &self,
        request: &RequestState,
        until: Option<Instant>,
        line: &Line<'_>,
        tell: &mut (dyn FnMut(u32) + Send),
    ) -> Result<Decision, Stop> {
        let mut wait = std::pin::pin!(self.answer(request, until));
        let mut ticks = interval_at(Instant::now(), TICK);
        let mut ticked = 0;
        loop {
            tokio::select! {
                decision = &mut wait => return decision.map_err(Stop::from),
                () = line.stopped.cancelled() => {
                    tracing::info!(request.id = %request.request_id, "taken back by its client");
                    drop(self.client.withdraw(request).await);
                    return Err(Stop::Withdrawn);
                }
                _ = ticks.tick() => {
                    ticked += 1;
                    tell(ticked);
                }
            }
        }
    }

    /// The decision on a question. Where nobody waits for the response, the relay may be away for a while.
    async fn answer(&self, request: &RequestState, until: Option<Instant>) -> Result<Decision, Error> {
        let Some(until) = until else {
            let last_try = Instant::now() + kept_for(request.respond_by);
            loop {
                match self.client.wait(request, None).await {
                    Err(Error::NoAnswer { last, .. }) if Instant::now() < last_try => {
                        tracing::warn!(request.id = %request.request_id, "the relay does not answer: {last}");
                        sleep(TICK).await;
                    }
                    answered => return answered,
                }
            }
        };
        self.client.wait(request, Some(until.saturating_duration_since(Instant::now()))).await
    }

    /// The next of the equal calls that is this one's to wait for or to use: one that is open and that nobody here works
    /// on, or else a new one.
    async fn turn(&self, envelope: &Envelope, after: u32) -> Result<Turn, Error> {
        let base = &envelope.client_request_key;
        let mut ordinal = after + 1;
        for _ in 0..MOST_EQUAL {
            let client_request_key = format!("{base}:{ordinal}");
            if let Some(live) = self.live(&client_request_key) {
                let asked = Envelope { client_request_key, ..envelope.clone() };
                if let Some(request) = self.open(&asked).await? {
                    return Ok(Turn { request, ordinal, _live: Some(live) });
                }
            }
            ordinal =
                if ordinal == 1 { self.newest(base).await?.saturating_sub(LOOK_BACK).max(2) } else { ordinal + 1 };
        }
        Err(Error::Configuration(format!("{MOST_EQUAL} calls like this one are open")))
    }

    fn live(&self, key: &str) -> Option<Live> {
        let is_new = self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        is_new.then(|| Live(self.live.clone(), key.to_owned()))
    }

    /// The request of this envelope, if it is new, pending, an approval that can be used, or an answer that nobody was told.
    async fn open(&self, asked: &Envelope) -> Result<Option<RequestState>, Error> {
        let mut request = match self.client.submit(asked).await {
            Ok(request) if !request.duplicate => return Ok(Some(request)),
            Ok(request) => request,
            // Something in it was another, such as the client's version or what the server says of the tool: what was
            // decided about that says nothing of this call.
            Err(Error::Refused(problem)) if problem.code == KEY_REUSED => return Ok(None),
            Err(error) => return Err(error),
        };
        if request.action_digest != asked.action.digest()? {
            return Ok(None);
        }
        let Some(decision) = &request.decision else { return Ok((request.status == PENDING).then_some(request)) };
        if Why::of(decision).is_none() {
            if request.execution == UNUSED {
                self.settle(decision).await;
            }
            return Ok((request.execution == USABLE).then_some(request));
        }
        if decision.delivery_id.is_none() {
            let ids = [request.request_id];
            let Some(due) = self.client.poll(Duration::ZERO, 1, &ids).await?.pop() else { return Ok(None) };
            request.decision = Some(due);
        }
        Ok(Some(request))
    }

    /// The highest ordinal under which an equal call was asked about, found in logarithmic time.
    async fn newest(&self, base: &str) -> Result<u32, Error> {
        let (mut is, mut is_not) = (1_u32, 2_u32);
        while self.client.find(&format!("{base}:{is_not}")).await?.is_some() {
            (is, is_not) = (is_not, is_not.saturating_mul(2));
        }
        while is_not - is > 1 {
            let middle = is + (is_not - is) / 2;
            let is_there = self.client.find(&format!("{base}:{middle}")).await?.is_some();
            *(if is_there { &mut is } else { &mut is_not }) = middle;
        }
        Ok(is)
    }

    /// Ends the delivery of an answer that the client is told now: the same call again is a new question.
    async fn settle(&self, decision: &Decision) {
        let undelivered = Decision { delivery_id: None, ..decision.clone() };
        if let Err(lost) = self.client.acknowledge(&undelivered, Said::Accepted).await {
            tracing::warn!(request.id = %decision.request_id, "an answer will be told again: {lost}");
        }
    }

    /// The page of a question.
    pub(crate) fn link(&self, request_id: Uuid) -> String {
        format!("{}/?id={request_id}", self.page)
    }
}

/// Asks the client to show a person the page. Its answer changes nothing: the relay's counts.
fn elicitation(about: About<'_>, line: &Line<'_>) {
    let request = format!(
        r#"{{"jsonrpc":"2.0","id":{},"method":"elicitation/create","params":{}}}"#,
        own_id(),
        told::link_elicitation(about, line.task)
    );
    drop(line.to_client.try_send(request));
}

fn too_late() -> Error {
    Error::Configuration("the relay did not answer in time".to_owned())
}

/// Why a call does not run.
enum Stop {
    Error(Error),
    /// The client is told this, and calls again.
    Shown(String),
    Withdrawn,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
