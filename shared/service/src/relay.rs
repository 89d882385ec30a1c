//! Writes that are announced: commit, then announce, then wake, in one place.
//!
//! Each operation runs as a task of its own. A caller that hangs up between the commit and the announcement loses its
//! answer and nothing else: the event goes out and the parked poll wakes all the same. Handlers never see an event.

use relaytrace_domain::{Decision, DeliveryState, Error, RequestId, Result, Submission, Verdict};
use relaytrace_store::{
    Ack, Acked, Adjustment, Caller, Consumed, Consuming, DeadLetterRecord, DecidedAtOnce, Deciding, Delivered, Noted,
    OutboxEvent, Reporting, RequestState, Rerouting, Scope, Store, Submitted, Taking,
};
use uuid::Uuid;

use crate::events::{Committed, Events, Reserved};

/// The store and the events that follow its commits; cheap to clone.
#[derive(Clone, Debug)]
pub struct Relay {
    store: Store,
    events: Events,
}

impl Relay {
    /// A relay over these.
    #[must_use]
    pub fn new(store: Store, events: Events) -> Self {
        Self { store, events }
    }

    /// Stores a submission, or finds the request that it repeats: the request, its decision if it has one, and whether it
    /// is new.
    ///
    /// # Errors
    /// Those of [`Store::submit`].
    pub async fn submit(
        &self,
        caller: Caller,
        submission: Submission,
        taking: Taking,
        traceparent: String,
    ) -> Result<(RequestState, Option<Delivered>, bool)> {
        let (store, events) = (self.store.clone(), self.events.clone());
        self.finish(Box::pin(async move {
            Ok(match store.submit(&caller, submission, taking, Some(&traceparent)).await? {
                Submitted::Created(request, event) => {
                    events.submitted(&request.agent_id, request.request_id);
                    ((request, None, true), Some(event))
                }
                Submitted::Decided(decided) => {
                    let DecidedAtOnce { request, delivered, events: told } = *decided;
                    events.decided_at_once(&store, told, delivered.lease.is_some()).await;
                    ((request, Some(delivered), true), None)
                }
                Submitted::Duplicate(request, delivered) => {
                    ((request, delivered.map(|delivered| *delivered), false), None)
                }
            })
        }))
        .await
    }

    /// Records a decision of an agent or an administrator. Returns the decision as it stands, and whether this call made it.
    ///
    /// Where a poll of this process waits for it, the decision's own statement leases the delivery to that poll.
    ///
    /// # Errors
    /// Those of [`Store::decide`].
    pub async fn decide(&self, deciding: Deciding) -> Result<(Decision, bool)> {
        let (store, events) = (self.store.clone(), self.events.clone());
        self.finish(Box::pin(async move {
            let reserved = events.reserve(deciding.request_id);
            let decided = store.decide(deciding, reserved.as_ref().map(Reserved::key_id)).await?;
            let is_new = decided.event.is_some();
            let event = events.hand_over(reserved, decided.leased, decided.event).await;
            Ok(((decided.decision, is_new), event))
        }))
        .await
    }

    /// Records an operator's answer. Returns the decision or the vote, and whether this call made it.
    ///
    /// # Errors
    /// Those of [`Store::answer`].
    pub async fn answer(&self, deciding: Deciding) -> Result<(Verdict, bool)> {
        let nothing = || Err(Error::internal(anyhow::anyhow!("an answer has no result")));
        self.answer_all(vec![deciding]).await?.pop().unwrap_or_else(nothing)
    }

    /// Records an operator's answers to different requests, each as if it were sent alone. Returns their results, in
    /// their order.
    ///
    /// # Errors
    /// [`Error::Internal`] where the task of this call panics; those of each answer are in its result.
    pub async fn answer_all(&self, deciding: Vec<Deciding>) -> Result<Vec<Result<(Verdict, bool)>>> {
        let (store, events) = (self.store.clone(), self.events.clone());
        let work = async move {
            let reserved: Vec<_> = deciding.iter().map(|deciding| events.reserve(deciding.request_id)).collect();
            let takers = reserved.iter().map(|reserved| reserved.as_ref().map(|reserved| reserved.key_id().clone()));
            let answers: Vec<_> = deciding.into_iter().zip(takers).collect();
            let (mut results, mut announced) = (Vec::with_capacity(answers.len()), Vec::new());
            for (reserved, answered) in reserved.into_iter().zip(store.answer(&answers).await) {
                let result = match answered {
                    Ok(answered) => {
                        let is_new = answered.event.is_some();
                        announced.extend(events.hand_over(reserved, answered.leased, answered.event).await);
                        Ok((answered.verdict, is_new))
                    }
                    Err(error) => Err(error),
                };
                results.push(result);
            }
            events.committed_all(&store, announced).await;
            results
        };
        tokio::spawn(Box::pin(work)).await.map_err(Error::internal)
    }

    /// Records an acknowledgement.
    ///
    /// # Errors
    /// Those of [`Store::acknowledge`].
    pub async fn acknowledge(&self, ack: Ack) -> Result<Acked> {
        let (store, events) = (self.store.clone(), self.events.clone());
        self.finish(async move {
            let (agent_id, request_id) = (ack.caller.agent_id.clone(), ack.request_id);
            let mut acked = store.acknowledge(ack).await?;
            if acked.state == DeliveryState::Ready {
                events.will_be_due(&agent_id, request_id);
            }
            let event = acked.event.take();
            Ok((acked, event))
        })
        .await
    }

    /// Uses an approval: the use as it stands, and whether this call made it.
    ///
    /// # Errors
    /// Those of [`Store::consume`].
    pub async fn consume(&self, consuming: Consuming) -> Result<(Consumed, bool)> {
        let store = self.store.clone();
        self.finish(async move {
            let mut consumed = store.consume(consuming).await?;
            let event = consumed.event.take();
            Ok(((consumed, event.is_some()), event))
        })
        .await
    }

    /// Notes what became of a use: the report as it stands, and whether this call made it.
    ///
    /// # Errors
    /// Those of [`Store::report_outcome`].
    pub async fn report_outcome(&self, reporting: Reporting) -> Result<(Noted, bool)> {
        let store = self.store.clone();
        self.finish(async move {
            let mut noted = store.report_outcome(reporting).await?;
            let event = noted.event.take();
            Ok(((noted, event.is_some()), event))
        })
        .await
    }

    /// Reroutes a request.
    ///
    /// # Errors
    /// Those of `Database::reroute`.
    pub async fn reroute(&self, rerouting: Rerouting) -> Result<()> {
        let store = self.store.clone();
        self.finish(async move { Ok(((), store.reroute(&rerouting).await?)) }).await
    }

    /// An administrator's change of a deadline or a priority; it has no event.
    ///
    /// # Errors
    /// Those of `Store::adjust`.
    pub async fn adjust(&self, scope: Scope, id: RequestId, adjustment: Adjustment, reason: String) -> Result<()> {
        let store = self.store.clone();
        self.finish(async move { Ok((store.adjust(&scope, id, adjustment, &reason).await?, None::<OutboxEvent>)) })
            .await
    }

    /// Delivers a decision once more, by an administrator's order.
    ///
    /// # Errors
    /// Those of `Store::requeue`.
    pub async fn requeue(&self, scope: Scope, id: RequestId, reason: String, traceparent: String) -> Result<()> {
        let store = self.store.clone();
        self.finish(async move { Ok(((), store.requeue(&scope, id, &reason, Some(&traceparent)).await?)) }).await
    }

    /// Retries the work of a dead letter.
    ///
    /// # Errors
    /// Those of `Store::retry_dead_letter`.
    pub async fn retry_dead_letter(&self, scope: Scope, id: Uuid, traceparent: String) -> Result<DeadLetterRecord> {
        let store = self.store.clone();
        self.finish(async move { store.retry_dead_letter(&scope, id, Some(&traceparent)).await }).await
    }

    /// Runs a write, its announcement and its wake-up to their end, even if the caller hangs up.
    async fn finish<T: Send + 'static, E: Into<Committed> + Send + 'static>(
        &self,
        write: impl Future<Output = Result<(T, Option<E>)>> + Send + 'static,
    ) -> Result<T> {
        let relay = self.clone();
        let work = async move {
            let (written, event) = write.await?;
            if let Some(event) = event {
                relay.events.committed(&relay.store, event).await;
            }
            Ok(written)
        };
        tokio::spawn(work).await.unwrap_or_else(|panic| Err(Error::internal(panic)))
    }
}
