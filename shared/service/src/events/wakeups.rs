//! Waking parked calls: at once by decisions of this process, through NATS by those of others.
//!
//! A wake-up is only a hint to read Postgres again; a lost one costs the time until the next look. A delivery wakes one
//! poll that may take it, and every look at its request: a look takes nothing, so it costs no poll its wake-up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Message;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::Notify;

use super::nats::{Nats, announced};
use relaytrace_domain::{AgentId, Error, RequestId, Result};

/// After the last call the subscription is kept for so long: the next poll usually follows at once.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Wakeups {
    nats: Nats,
    agents: Arc<Agents>,
    is_stopping: AtomicBool,
}

/// Calls that wait.
#[derive(Debug, Default)]
struct Agents(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    agents: HashMap<AgentId, Calls>,
    is_subscribed: bool,
}

/// The waiting calls of one agent.
#[derive(Debug, Default)]
struct Calls {
    /// Polls that nothing has woken yet, in line, and every look.
    line: Vec<Arc<Waiter>>,
    /// All of them: a poll that reads again after a wake-up is not in line.
    parked: usize,
}

/// What a parked call waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// A poll takes a decision of these requests; `None`: of any request of its agent.
    Delivery(Option<Vec<RequestId>>),
    /// A look at this request takes nothing.
    Decision(RequestId),
}

#[derive(Debug)]
struct Waiter {
    waits_for: WaitsFor,
    woken: Notify,
}

impl Waiter {
    fn is_poll_for(&self, request_id: RequestId) -> bool {
        match &self.waits_for {
            WaitsFor::Delivery(ids) => ids.as_ref().is_none_or(|ids| ids.contains(&request_id)),
            WaitsFor::Decision(_) => false,
        }
    }
}

/// A call that waits. Dropping it takes it out of the line.
#[derive(Debug)]
pub struct Parked {
    agents: Arc<Agents>,
    agent_id: AgentId,
    waiter: Arc<Waiter>,
}

impl Parked {
    /// Waits for a wake-up, at most `longest`. `false`: none came.
    pub async fn wait(&self, longest: Duration) -> bool {
        tokio::time::timeout(longest, self.waiter.woken.notified()).await.is_ok()
    }

    /// Gets in line again after a wake-up that brought nothing.
    pub fn requeue(&self) {
        let mut waiting = self.agents.lock();
        let line = &mut waiting.agents.entry(self.agent_id.clone()).or_default().line;
        if !line.iter().any(|waiter| Arc::ptr_eq(waiter, &self.waiter)) {
            line.push(self.waiter.clone());
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        let mut waiting = self.agents.lock();
        if let Some(calls) = waiting.agents.get_mut(&self.agent_id) {
            calls.line.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
            calls.parked = calls.parked.saturating_sub(1);
            if calls.parked == 0 {
                waiting.agents.remove(&self.agent_id);
            }
        }
    }
}

impl Agents {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held; what is in it is whole in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call; whether it needs a subscription made first. `None`: as many wait as may.
    fn add(&self, agent_id: &AgentId, waiter: Arc<Waiter>, most: usize) -> Option<bool> {
        let mut waiting = self.lock();
        let calls = waiting.agents.entry(agent_id.clone()).or_default();
        if calls.parked >= most {
            return None;
        }
        calls.parked += 1;
        calls.line.push(waiter);
        Some(!std::mem::replace(&mut waiting.is_subscribed, true))
    }

    /// Wakes one poll that may take the decision, and every look at the request.
    fn wake(&self, agent_id: &AgentId, request_id: RequestId) {
        let mut waiting = self.lock();
        let Some(Calls { line, .. }) = waiting.agents.get_mut(agent_id) else { return };
        for look in line.iter().filter(|waiter| waiter.waits_for == WaitsFor::Decision(request_id)) {
            look.woken.notify_one();
        }
        if let Some(index) = line.iter().position(|waiter| waiter.is_poll_for(request_id)) {
            line.remove(index).woken.notify_one();
        }
    }

    /// Ends an idle subscription. `false`: it is in use.
    fn end_if_idle(&self) -> bool {
        let mut waiting = self.lock();
        waiting.is_subscribed = !waiting.agents.is_empty();
        !waiting.is_subscribed
    }
}

impl Wakeups {
    pub(super) fn new(nats: Nats) -> Self {
        Self { nats, agents: Arc::default(), is_stopping: AtomicBool::new(false) }
    }

    pub(super) fn wake(&self, agent_id: &AgentId, request_id: RequestId) {
        self.agents.wake(agent_id, request_id);
    }

    pub(super) fn is_parked(&self, agent_id: &AgentId) -> bool {
        self.agents.lock().agents.get(agent_id).is_some_and(|calls| !calls.line.is_empty())
    }

    pub(super) fn parked(&self, agent_id: &AgentId) -> usize {
        self.agents.lock().agents.get(agent_id).map_or(0, |calls| calls.parked)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Lets every parked call return, and those to come too.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        for calls in self.agents.lock().agents.values_mut() {
            calls.line.drain(..).for_each(|waiter| waiter.woken.notify_one());
        }
    }

    /// Parks a call where fewer than `most` of its agent wait.
    pub(super) async fn park(&self, agent_id: &AgentId, waits_for: WaitsFor, most: usize) -> Result<Parked> {
        let waiter = Arc::new(Waiter { waits_for, woken: Notify::new() });
        let is_first = self.agents.add(agent_id, waiter.clone(), most);
        let is_first = is_first.ok_or_else(|| Error::RateLimited { cap: format!("{most} waiting calls") })?;
        let parked = Parked { agents: self.agents.clone(), agent_id: agent_id.clone(), waiter };
        if is_first {
            // In a task of its own: a poller that hangs up while it subscribes must not leave everybody without.
            let (nats, agents) = (self.nats.clone(), self.agents.clone());
            drop(tokio::spawn(subscribe(nats, agents)).await);
        }
        Ok(parked)
    }
}

/// One subscription for all parked calls of all agents: a subscription for each agent cost 14 KiB of memory, and a
/// round trip to NATS for every agent's first poll. Returns once it is there.
async fn subscribe(nats: Nats, agents: Arc<Agents>) {
    match nats.subscribe().await {
        Ok(messages) => drop(tokio::spawn(pass_on(messages, agents))),
        Err(error) => {
            tracing::debug!(error = format!("{error:#}"), "no wake-ups from other processes for now");
            agents.lock().is_subscribed = false;
        }
    }
}

/// Passes wake-ups on until no call has been parked for a while.
async fn pass_on(mut messages: impl Stream<Item = Message> + Unpin, agents: Arc<Agents>) {
    loop {
        match tokio::time::timeout(LINGER, messages.next()).await {
            Ok(Some(message)) => {
                if let Some((agent_id, request_id)) = announced(&message) {
                    agents.wake(&agent_id, request_id);
                }
            }
            Ok(None) => {
                agents.lock().is_subscribed = false;
                return;
            }
            Err(_) if agents.end_if_idle() => return,
            Err(_) => {}
        }
    }
}
