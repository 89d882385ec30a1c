//! Waking parked polls: at once by decisions of this process, through NATS by those of others.
//!
//! A wake-up is only a hint to read Postgres again; a lost one costs the time until the next look.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Message;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::Notify;

use super::nats::{Nats, announced};
use relaytrace_domain::{AgentId, RequestId};

/// After the last poll the subscription is kept for so long: the next poll usually follows at once.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Wakeups {
    nats: Nats,
    agents: Arc<Agents>,
    is_stopping: AtomicBool,
}

/// Polls that wait, in line.
#[derive(Debug, Default)]
struct Agents(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    polls: HashMap<AgentId, Vec<Arc<Waiter>>>,
    is_subscribed: bool,
}

#[derive(Debug)]
struct Waiter {
    /// Only decisions of these are for it.
    request_ids: Option<Vec<RequestId>>,
    woken: Notify,
}

/// A poll that waits. Dropping it takes it out of the line.
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
        let polls = waiting.polls.entry(self.agent_id.clone()).or_default();
        if !polls.iter().any(|waiter| Arc::ptr_eq(waiter, &self.waiter)) {
            polls.push(self.waiter.clone());
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        let mut waiting = self.agents.lock();
        if let Some(polls) = waiting.polls.get_mut(&self.agent_id) {
            polls.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
            if polls.is_empty() {
                waiting.polls.remove(&self.agent_id);
            }
        }
    }
}

impl Agents {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held; what is in it is whole in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes one poll that may take the decision.
    fn wake(&self, agent_id: &AgentId, request_id: RequestId) {
        let mut waiting = self.lock();
        let Some(polls) = waiting.polls.get_mut(agent_id) else { return };
        let may_take = |waiter: &Arc<Waiter>| waiter.request_ids.as_ref().is_none_or(|ids| ids.contains(&request_id));
        if let Some(index) = polls.iter().position(may_take) {
            polls.remove(index).woken.notify_one();
        }
    }

    /// Ends a subscription that nobody has needed for a while. `false`: it is still needed.
    fn end_if_idle(&self) -> bool {
        let mut waiting = self.lock();
        waiting.is_subscribed = !waiting.polls.is_empty();
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
        self.agents.lock().polls.get(agent_id).is_some_and(|polls| !polls.is_empty())
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Lets every parked poll return, and those to come too.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        for polls in self.agents.lock().polls.values_mut() {
            polls.drain(..).for_each(|waiter| waiter.woken.notify_one());
        }
    }

    pub(super) async fn park(&self, agent_id: &AgentId, request_ids: Option<&[RequestId]>) -> Parked {
        let waiter = Arc::new(Waiter { request_ids: request_ids.map(<[_]>::to_vec), woken: Notify::new() });
        let parked = Parked { agents: self.agents.clone(), agent_id: agent_id.clone(), waiter: waiter.clone() };
        let is_first = {
            let mut waiting = self.agents.lock();
            waiting.polls.entry(agent_id.clone()).or_default().push(waiter);
            !std::mem::replace(&mut waiting.is_subscribed, true)
        };
        if is_first {
            // In a task of its own: a poller that hangs up while it subscribes must not leave everybody without.
            let (nats, agents) = (self.nats.clone(), self.agents.clone());
            drop(tokio::spawn(subscribe(nats, agents)).await);
        }
        parked
    }
}

/// One subscription while polls are parked, whatever their number and whosever they are: one for each agent cost 14 KiB
/// of memory each, and a round trip to NATS for every agent's first poll. Returns once it is there.
async fn subscribe(nats: Nats, agents: Arc<Agents>) {
    match nats.subscribe().await {
        Ok(messages) => drop(tokio::spawn(pass_on(messages, agents))),
        Err(error) => {
            tracing::debug!(error = format!("{error:#}"), "no wake-ups from other processes for now");
            agents.lock().is_subscribed = false;
        }
    }
}

/// Passes wake-ups on until nobody has been parked for a while.
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
