//! Waking parked calls: at once by decisions of this process, through NATS by those of others.
//!
//! A wake-up is only a hint to read Postgres again; a lost one costs the time until the next look. A delivery wakes one
//! poll that may take it, and every look at its request: a look takes nothing, so it costs no poll its wake-up.
//!
//! A decision of this process may reserve a parked poll before its statement: the statement then leases the delivery to
//! that poll, and the poll answers without a statement of its own. A reserved poll is out of line. It gets the lease, or
//! is woken to look for itself; a lease that comes when it has left goes back. A poll that names one request may be
//! reserved while it looks, too: as long as that request is undecided it finds nothing, and what it is handed it cannot find.
//! It takes what it was handed before it believes that there is nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Message;
use futures_util::{Stream, StreamExt as _};
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::nats::{Nats, announced};
use relaytrace_domain::{AgentId, Error, KeyId, RequestId, Result};
use relaytrace_store::OnItsWay;

/// Requests whose agent is remembered: a decision of another one finds its poll by a wake-up.
const OWNERS: usize = 16_384;
/// After the last call the subscription is kept for so long: the next poll usually follows at once.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Wakeups {
    nats: Nats,
    agents: Arc<Agents>,
    /// Whose the latest requests of this process are.
    owners: Cache<RequestId, AgentId>,
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
    hand: Mutex<Hand>,
}

/// What a parked poll can take, and has been given.
#[derive(Debug, Default)]
struct Hand {
    /// The key of a poll that may be handed a lease. A poll that looks for more than one request is not disturbed.
    open_for: Option<KeyId>,
    leased: Option<OnItsWay>,
    /// The wake-up that it has not heard yet: passed on where it leaves without hearing.
    unheard: Option<RequestId>,
    has_left: bool,
}

impl WaitsFor {
    /// Whether a poll that looks can only find the decision that it may be handed meanwhile.
    fn is_one_delivery(&self) -> bool {
        matches!(self, Self::Delivery(Some(ids)) if ids.len() == 1)
    }
}

impl Waiter {
    fn is_poll_for(&self, request_id: RequestId) -> bool {
        match &self.waits_for {
            WaitsFor::Delivery(ids) => ids.as_ref().is_none_or(|ids| ids.contains(&request_id)),
            WaitsFor::Decision(_) => false,
        }
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits. Dropping it takes it out of the line.
#[derive(Debug)]
pub struct Parked {
    agents: Arc<Agents>,
    agent_id: AgentId,
    waiter: Arc<Waiter>,
    /// A subscription that began with this call.
    subscribing: Option<JoinHandle<()>>,
}

impl Parked {
    /// Waits until the subscription that began with this call is there. `false`: none did, so nothing can have been
    /// missed.
    pub async fn subscribed(&mut self) -> bool {
        let Some(subscribing) = self.subscribing.take() else { return false };
        drop(subscribing.await);
        true
    }

    /// Waits for a wake-up, at most `longest`. `false`: none came.
    pub async fn wait(&self, longest: Duration) -> bool {
        let is_woken = tokio::time::timeout(longest, self.waiter.woken.notified()).await.is_ok();
        // Who waits reads again in any case.
        self.waiter.hand().unheard = None;
        is_woken
    }

    /// Lets a decision hand this poll with this key its lease while it looks, where it looks for nothing else.
    pub fn open(&self, key_id: &KeyId) {
        if self.waiter.waits_for.is_one_delivery() {
            self.waiter.hand().open_for = Some(key_id.clone());
        }
    }

    /// What a decision has handed this poll.
    #[must_use]
    pub fn handed(&self) -> Option<OnItsWay> {
        self.waiter.hand().leased.take()
    }

    /// As [`Self::wait`], for a poll with this key, which may be handed a lease meanwhile.
    pub async fn wait_for_lease(&self, longest: Duration, key_id: &KeyId) -> Option<OnItsWay> {
        let is_handed = {
            let mut hand = self.waiter.hand();
            hand.open_for = Some(key_id.clone());
            hand.leased.is_some()
        };
        if !is_handed {
            self.wait(longest).await;
        }
        let mut hand = self.waiter.hand();
        if !self.waiter.waits_for.is_one_delivery() {
            hand.open_for = None;
        }
        hand.leased.take()
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
        self.agents.remove(&self.agent_id, &self.waiter);
        let (leased, unheard) = {
            let mut hand = self.waiter.hand();
            hand.has_left = true;
            (hand.leased.take(), hand.unheard.take())
        };
        if let Some(request_id) = unheard {
            self.agents.wake(&self.agent_id, request_id);
        }
        // Another poll may have it.
        if let (Some(leased), Ok(runtime)) = (leased, Handle::try_current()) {
            let (agents, agent_id) = (self.agents.clone(), self.agent_id.clone());
            drop(runtime.spawn(async move {
                for request_id in leased.give_back().await {
                    agents.wake(&agent_id, request_id);
                }
            }));
        }
    }
}

/// A parked poll that a decision has taken out of line. Dropped without a lease, it lets the poll look for itself.
#[derive(Debug)]
pub(crate) struct Reserved {
    waiter: Arc<Waiter>,
    key_id: KeyId,
}

impl Reserved {
    /// The key of the poll.
    pub(crate) fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Hands the lease over. Returns it where the poll has left, or has not taken an earlier one.
    #[must_use]
    pub(crate) fn hand_over(self, leased: OnItsWay) -> Option<OnItsWay> {
        let mut hand = self.waiter.hand();
        if hand.has_left || hand.leased.is_some() {
            return Some(leased);
        }
        hand.leased = Some(leased);
        None
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.waiter.woken.notify_one();
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
        wake_looks(line, request_id);
        if let Some(index) = line.iter().position(|waiter| waiter.is_poll_for(request_id)) {
            let waiter = line.remove(index);
            waiter.hand().unheard = Some(request_id);
            waiter.woken.notify_one();
        }
    }

    /// Wakes every look at the request.
    fn wake_looks(&self, agent_id: &AgentId, request_id: RequestId) {
        if let Some(calls) = self.lock().agents.get(agent_id) {
            wake_looks(&calls.line, request_id);
        }
    }

    /// Takes a poll that waits and may take this request's decision out of line.
    fn reserve(&self, agent_id: &AgentId, request_id: RequestId) -> Option<Reserved> {
        let mut waiting = self.lock();
        let line = &mut waiting.agents.get_mut(agent_id)?.line;
        let mut open = line.iter().enumerate().filter(|(_, waiter)| waiter.is_poll_for(request_id));
        let (index, key_id) = open.find_map(|(index, waiter)| Some((index, waiter.hand().open_for.clone()?)))?;
        Some(Reserved { waiter: line.remove(index), key_id })
    }

    /// Takes a call away.
    fn remove(&self, agent_id: &AgentId, gone: &Arc<Waiter>) {
        let mut waiting = self.lock();
        if let Some(calls) = waiting.agents.get_mut(agent_id) {
            calls.line.retain(|waiter| !Arc::ptr_eq(waiter, gone));
            calls.parked = calls.parked.saturating_sub(1);
            if calls.parked == 0 {
                waiting.agents.remove(agent_id);
            }
        }
    }

    /// Ends an idle subscription. `false`: it is in use.
    fn end_if_idle(&self) -> bool {
        let mut waiting = self.lock();
        waiting.is_subscribed = !waiting.agents.is_empty();
        !waiting.is_subscribed
    }
}

fn wake_looks(line: &[Arc<Waiter>], request_id: RequestId) {
    for look in line.iter().filter(|waiter| waiter.waits_for == WaitsFor::Decision(request_id)) {
        look.woken.notify_one();
    }
}

impl Wakeups {
    pub(super) fn new(nats: Nats) -> Self {
        let owners = Cache::new(OWNERS);
        Self { nats, agents: Arc::default(), owners, is_stopping: AtomicBool::new(false) }
    }

    /// Notes whose request this is, for decisions to come.
    pub(super) fn submitted(&self, agent_id: &AgentId, request_id: RequestId) {
        self.owners.insert(request_id, agent_id.clone());
    }

    /// Reserves a parked poll for the decision of a request, where this process knows whose it is.
    pub(super) fn reserve(&self, request_id: RequestId) -> Option<Reserved> {
        self.agents.reserve(&self.owners.get(&request_id)?, request_id)
    }

    pub(super) fn wake_looks(&self, agent_id: &AgentId, request_id: RequestId) {
        self.agents.wake_looks(agent_id, request_id);
    }

    pub(super) fn wake(&self, agent_id: &AgentId, request_id: RequestId) {
        self.agents.wake(agent_id, request_id);
    }

    pub(super) fn parked(&self, agent_id: &AgentId) -> usize {
        self.agents.lock().agents.get(agent_id).map_or(0, |calls| calls.parked)
    }

    pub(super) fn open_polls(&self, agent_id: &AgentId) -> usize {
        let waiting = self.agents.lock();
        let line = waiting.agents.get(agent_id).map_or(&[][..], |calls| &calls.line);
        line.iter().filter(|waiter| waiter.hand().open_for.is_some()).count()
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

    /// Parks a call where fewer than `most` of its agent wait. The first begins a subscription.
    pub(super) fn park(&self, agent_id: &AgentId, waits_for: WaitsFor, most: usize) -> Result<Parked> {
        let waiter = Arc::new(Waiter { waits_for, woken: Notify::new(), hand: Mutex::default() });
        let is_first = self.agents.add(agent_id, waiter.clone(), most);
        let is_first = is_first.ok_or_else(|| Error::RateLimited { cap: format!("{most} waiting calls") })?;
        // In a task of its own: a poller that hangs up while it subscribes must not leave everybody without.
        let subscribe = || tokio::spawn(subscribe(self.nats.clone(), self.agents.clone()));
        let subscribing = is_first.then(subscribe);
        Ok(Parked { agents: self.agents.clone(), agent_id: agent_id.clone(), waiter, subscribing })
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
