//! Events: out of the outbox onto the stream, and back as wake-ups for parked calls.
//!
//! Postgres is the truth. An event is committed with the change that it tells of. The process that wrote it publishes
//! it, and deletes its outbox row after the stream's acknowledgement; the sweep publishes rows that are left over.
//! While NATS is away, wake-ups of other processes come later, and nothing else changes.

mod nats;
mod publisher;
mod stream;
mod wakeups;

use std::sync::Arc;

use crate::config::NatsConfig;
use relaytrace_domain::{AgentId, RequestId, Result};
use relaytrace_store::{OnItsWay, OutboxEvent, Store, ToldEntry};

pub use nats::STREAM;
pub(crate) use nats::check_config;
pub use publisher::Published;
pub(crate) use wakeups::Reserved;
pub use wakeups::{Parked, WaitsFor};

/// When events are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publishing {
    /// By a task of this process, after the response (plain HTTP).
    Behind,
    /// One bounded attempt before the response: nothing may be left running after it (Lambda).
    BeforeResponse,
}

/// The stream and the wake-ups; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    nats: nats::Nats,
    publishing: Publishing,
    queue: publisher::Queue,
    wakeups: wakeups::Wakeups,
}

/// An event of a commit.
#[derive(Debug)]
pub struct Committed {
    event: OutboxEvent,
    /// A poll of this process has what it tells: no poll is to be woken.
    is_delivered: bool,
}

impl From<OutboxEvent> for Committed {
    fn from(event: OutboxEvent) -> Self {
        Self { event, is_delivered: false }
    }
}

impl Events {
    /// Connects in the background, when first needed.
    #[must_use]
    pub fn new(config: NatsConfig, publishing: Publishing) -> Self {
        let nats = nats::Nats::new(config);
        Self(Arc::new(Inner {
            publishing,
            queue: publisher::Queue::default(),
            wakeups: wakeups::Wakeups::new(nats.clone()),
            nats,
        }))
    }

    /// To be called right after the commit that `event` tells.
    pub async fn committed(&self, store: &Store, event: impl Into<Committed>) {
        self.committed_all(store, vec![event.into()]).await;
    }

    /// The same for the events of one call. Before a response they are published together, in one bounded attempt.
    pub(crate) async fn committed_all(&self, store: &Store, events: Vec<Committed>) {
        let (delivered, others): (Vec<_>, Vec<_>) = events.iter().partition(|it| it.is_delivered);
        for Committed { event, .. } in others.into_iter().filter(|it| it.event.is_for_polls()) {
            self.0.wakeups.wake(&event.agent_id, event.request_id);
        }
        if !delivered.is_empty() {
            // Polls that have their decisions go on first: nobody else is in such a hurry to hear of them.
            tokio::task::yield_now().await;
        }
        for Committed { event, .. } in delivered {
            self.0.wakeups.wake_looks(&event.agent_id, event.request_id);
        }
        self.announce_all(store, events.into_iter().map(|it| it.event).collect()).await;
    }

    /// The same for a request that a rule decided as it was submitted. Where its answer has the delivery, no poll is woken.
    pub(crate) async fn decided_at_once(&self, store: &Store, events: [OutboxEvent; 2], is_leased: bool) {
        if is_leased {
            self.announce_all(store, events.into()).await;
        } else {
            self.committed_all(store, events.map(Committed::from).into()).await;
        }
    }

    async fn announce_all(&self, store: &Store, events: Vec<OutboxEvent>) {
        match self.0.publishing {
            Publishing::Behind => events.into_iter().for_each(|event| self.0.queue.push(&self.0.nats, store, event)),
            Publishing::BeforeResponse if events.is_empty() => {}
            Publishing::BeforeResponse => publisher::attempt(&self.0.nats, store, events).await,
        }
    }

    /// Gives a decision's delivery to the poll that was taken out of line for it. Returns the event that is still to be
    /// announced.
    pub(crate) async fn hand_over(
        &self,
        reserved: Option<Reserved>,
        leased: Option<OnItsWay>,
        event: Option<OutboxEvent>,
    ) -> Option<Committed> {
        let given_back = match (reserved, leased) {
            (Some(reserved), Some(leased)) => reserved.hand_over(leased),
            _ => return event.map(Committed::from),
        };
        let is_delivered = given_back.is_none();
        if let Some(leased) = given_back {
            // Its poll has left: the announcement wakes another one.
            drop(leased.give_back().await);
        }
        event.map(|event| Committed { event, is_delivered })
    }

    /// To be called where this process has stored a request: its decision may then reserve a poll.
    pub(crate) fn submitted(&self, agent_id: &AgentId, request_id: RequestId) {
        if self.0.publishing == Publishing::Behind {
            self.0.wakeups.submitted(agent_id, request_id);
        }
    }

    /// Takes a poll that is parked in this process, and that may take the decision of this request, out of line.
    pub(crate) fn reserve(&self, request_id: RequestId) -> Option<Reserved> {
        self.0.wakeups.reserve(request_id)
    }

    /// Publishes events of a batch and deletes their outbox rows. What the stream refuses is noted; after too often
    /// it is a dead letter.
    pub async fn publish(&self, store: &Store, events: Vec<OutboxEvent>) -> Result<Published> {
        for event in events.iter().filter(|event| event.is_for_polls()) {
            self.0.wakeups.wake(&event.agent_id, event.request_id);
        }
        publisher::publish(&self.0.nats, store, events).await
    }

    /// To be called where a delivery was put off: a parked poll that may take it looks again, and learns when it is due.
    pub(crate) fn will_be_due(&self, agent_id: &AgentId, request_id: RequestId) {
        self.0.wakeups.wake(agent_id, request_id);
    }

    /// Parks a call until its decision or delivery may be there. Park first, then read, then wait. Must be called within a
    /// runtime.
    ///
    /// # Errors
    /// [`RateLimited`](relaytrace_domain::Error::RateLimited) where `most` calls of the agent wait in this process already.
    pub fn park(&self, agent_id: &AgentId, waits_for: WaitsFor, most: usize) -> Result<Parked> {
        self.0.wakeups.park(agent_id, waits_for, most)
    }

    /// How many calls of this agent wait in this process.
    #[must_use]
    pub fn parked(&self, agent_id: &AgentId) -> usize {
        self.0.wakeups.parked(agent_id)
    }

    /// How many polls of this agent a decision of this process may hand a lease.
    #[must_use]
    pub fn open_polls(&self, agent_id: &AgentId) -> usize {
        self.0.wakeups.open_polls(agent_id)
    }

    /// Tries to connect until the first failure.
    pub async fn connect(&self) {
        self.0.nats.connect().await;
    }

    /// Whether the stream is reachable. Connects where no connection was made yet.
    pub async fn is_connected(&self) -> bool {
        self.0.nats.is_connected().await
    }

    /// Whether NATS is connected at this moment; does not try.
    #[must_use]
    pub fn is_connected_now(&self) -> bool {
        self.0.nats.is_connected_now()
    }

    /// What the newest messages of the stream tell.
    ///
    /// # Errors
    /// NATS is not reached, or there is no stream.
    pub async fn newest(&self, count: u64) -> anyhow::Result<Vec<ToldEntry>> {
        self.0.nats.newest(count).await
    }

    /// Why events do not get through to the stream, if it is known.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.nats.trouble()
    }

    /// The process is shutting down: calls do not wait any longer.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.wakeups.is_stopping()
    }

    /// Waits until queued events are published, at most a second, and lets every parked call return.
    pub async fn shut_down(&self) {
        self.0.wakeups.stop();
        self.0.queue.drain().await;
    }
}
