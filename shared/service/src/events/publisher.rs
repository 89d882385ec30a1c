//! From the outbox to the stream: publish, await the acknowledgement, then delete the row.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::nats::{Nats, Publication};
use relaytrace_domain::RequestId;
use relaytrace_domain::Result;
use relaytrace_store::{OutboxEvent, RefusedEvent, Store};

/// At most so many events are held in memory; others stay in the outbox for the sweep.
const QUEUE_LENGTH: usize = 16_384;
/// Events published together at the most.
const BATCH: usize = 512;
/// Longest that a response waits for its event (Lambda).
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(300);

/// The events of this process that are committed and not yet published. Its task starts with the first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    sender: OnceLock<mpsc::Sender<OutboxEvent>>,
    waiting: std::sync::Arc<AtomicUsize>,
}

impl Queue {
    pub(super) fn push(&self, nats: &Nats, store: &Store, event: OutboxEvent) {
        let sender = self.sender.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
            tokio::spawn(run(nats.clone(), store.clone(), receiver, self.waiting.clone()));
            sender
        });
        if sender.try_send(event).is_ok() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits at most a second for the queue to become empty. The rest stays in the outbox.
    pub(super) async fn drain(&self) {
        let empty = async {
            while self.waiting.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        drop(tokio::time::timeout(Duration::from_secs(1), empty).await);
    }
}

async fn run(
    nats: Nats,
    store: Store,
    mut receiver: mpsc::Receiver<OutboxEvent>,
    waiting: std::sync::Arc<AtomicUsize>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = receiver.recv_many(&mut batch, BATCH).await;
        if received == 0 {
            return;
        }
        if let Err(error) = publish(&nats, &store, std::mem::take(&mut batch)).await {
            // The rows stay; the sweep publishes them again, with the same ids.
            tracing::warn!(error = %error, "published events stay in the outbox for now");
        }
        waiting.fetch_sub(received, Ordering::Relaxed);
    }
}

/// One attempt, bounded in time, before the response. A server that says nothing for so long is not waited for again
/// on that connection: it may have died while this process was frozen.
pub(super) async fn attempt(nats: &Nats, store: &Store, events: Vec<OutboxEvent>) {
    let all = events.len() as u64;
    match tokio::time::timeout(ATTEMPT_TIMEOUT, publish(nats, store, events)).await {
        Ok(Ok(Published { acknowledged, .. })) if acknowledged == all => {}
        Ok(_) => tracing::debug!("events are left to the sweep"),
        Err(_) => {
            tracing::warn!("NATS did not answer in time: events are left to the sweep");
            nats.break_off().await;
        }
    }
}

/// The result of publishing a batch of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// How many the stream acknowledged.
    pub acknowledged: u64,
    /// Which did not reach it.
    pub unreached: Vec<(RequestId, i32)>,
}

/// Publishes, deletes the outbox rows of acknowledged events, and notes refusals.
pub(super) async fn publish(nats: &Nats, store: &Store, events: Vec<OutboxEvent>) -> Result<Published> {
    let publications = nats.publish(&events).await;
    let (mut acknowledged, mut refused, mut unreached) = (Vec::new(), Vec::new(), Vec::new());
    for (event, publication) in events.iter().zip(publications) {
        let (request_id, seq) = (event.request_id, event.seq);
        let refuse = |error, is_final| RefusedEvent { request_id, seq, error, is_final };
        match publication {
            Publication::Acknowledged => acknowledged.push((request_id, seq)),
            Publication::Unreached => unreached.push((request_id, seq)),
            Publication::Refused(error) => refused.push(refuse(error, false)),
            Publication::TooLong => refused.push(refuse("it is longer than the server's max_payload".into(), true)),
        }
    }
    if !acknowledged.is_empty() {
        store.forget_events(&acknowledged).await?;
    }
    if !refused.is_empty() {
        store.refuse_events(&refused).await?;
    }
    Ok(Published { acknowledged: acknowledged.len() as u64, unreached })
}
