//! One handoff as its agent lives it, in each of the ways in which agents behave.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::future::join_all;
use relaytrace_client::{Acknowledged, Client, Decision, DeliveryState, Envelope, Error, RequestState, Said};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::ledger::{Mark, Timed, Told, now};
use super::plan::Planned;
use super::probes;
use super::scenario::Behaviour;
use super::world::{Question, World};

/// Longest poll.
const LONG_POLL: Duration = Duration::from_secs(20);

/// Plays the handoff to its end.
pub async fn play(world: Arc<World>, index: usize) {
    let lived = Turn::new(&world, index).live().await;
    let mut book = world.ledger.open();
    book.over += 1;
    book.handoffs[index].is_over = true;
    if let Err(error) = lived {
        book.handoffs[index].gave_up = Some(format!("{error:#}"));
    }
}

/// One handoff, as its agent plays it.
struct Turn<'a> {
    world: &'a World,
    index: usize,
    planned: &'a Planned,
    client: Client,
    envelope: Envelope,
    due: Instant,
}

impl<'a> Turn<'a> {
    fn new(world: &'a World, index: usize) -> Self {
        let planned = &world.plan[index];
        let mut envelope = planned.envelope(&format!("order-{index}"));
        if planned.answer.is_too_late() {
            let within = Duration::from_secs_f64(world.scenario.operators.respond_within_seconds);
            envelope.respond_by = Some(now() + within);
        }
        let client = world.client(index);
        let mut book = world.ledger.open();
        let handoff = &mut book.handoffs[index];
        client.agent_id().clone_into(&mut handoff.agent_id);
        handoff.client_request_key.clone_from(&envelope.client_request_key);
        handoff.action_digest = envelope.action.digest().unwrap_or_default();
        drop(book);
        Self { world, index, planned, client, envelope, due: world.ledger.begun() + planned.at }
    }

    async fn live(&self) -> Result<()> {
        let Planned { behaviour, pause, repeats, .. } = *self.planned;
        if behaviour == Behaviour::Hostile {
            probes::forgeries(self.world, self.index).await;
        }
        let request_id = match behaviour {
            Behaviour::Greedy | Behaviour::Stormy => self.submit_at_once(repeats.min(4)).await?,
            _ => self.submit().await?.request_id,
        };
        match behaviour {
            Behaviour::Patient | Behaviour::Hostile => {}
            Behaviour::Forgetful => self.forget_and_submit_again(pause).await?,
            Behaviour::Crashing => self.crash_with_the_decision(request_id, pause).await?,
            Behaviour::Deferring => self.defer(request_id).await?,
            Behaviour::Failing => return self.fail(request_id).await,
            Behaviour::Cancelling => self.cancel(request_id, pause).await?,
            Behaviour::Slow => return self.look_now_and_then(request_id, pause).await,
            Behaviour::Greedy => return self.wait_greedily(request_id).await,
            Behaviour::Stormy => self.storm(pause, repeats).await?,
            Behaviour::Buggy => return self.blunder(request_id).await,
        }
        let decision = self.wait(request_id, LONG_POLL).await?;
        self.accept(&decision).await?;
        if behaviour == Behaviour::Stormy {
            self.storm(Duration::from_millis(10), 2).await?;
        }
        Ok(())
    }

    /// Submits; the first answer goes to the operators.
    async fn submit(&self) -> Result<RequestState> {
        let submission = self.client.submit(&self.envelope).await?;
        if self.world.ledger.accepted(self.index, &submission) {
            self.world.ledger.took(Timed::Submit, self.due.elapsed());
            self.world.ask(Question { index: self.index, request_id: submission.request_id });
        }
        Ok(submission)
    }

    async fn submit_at_once(&self, times: usize) -> Result<Uuid> {
        let all = join_all((0..times).map(|_| self.submit())).await;
        all.into_iter().collect::<Result<Vec<_>>>()?;
        let first = self.world.ledger.open().handoffs[self.index].request_id;
        let Some(first) = first else { bail!("nothing was submitted") };
        Ok(first)
    }

    /// Polls until the decision is there, and checks it.
    async fn wait(&self, request_id: Uuid, wait: Duration) -> Result<Decision> {
        loop {
            let begun = Instant::now();
            self.world.ledger.open().handoffs[self.index].polls_since = Some(begun);
            let mut decisions = self.client.poll(wait, 1, &[request_id]).await?;
            let answered = Instant::now();
            self.world.ledger.open().handoffs[self.index].waited += answered - begun;
            if let Some(decision) = decisions.pop() {
                self.take(&decision, answered);
                return Ok(decision);
            }
            if wait.is_zero() {
                sleep(self.planned.pause).await;
            }
        }
    }

    /// Writes the decision down, and that it is about this question.
    fn take(&self, decision: &Decision, answered: Instant) {
        let ledger = &self.world.ledger;
        ledger.told(self.index, decision.into());
        let mut book = ledger.open();
        let handoff = &mut book.handoffs[self.index];
        if let (Some(decides_at), Some(polls_since)) = (handoff.decides_at, handoff.polls_since)
            && polls_since < decides_at
            && decision.cause == "operator"
            && handoff.took.is_none()
        {
            handoff.took = Some(answered.saturating_duration_since(decides_at));
        }
        let is_own = decision.action_digest == handoff.action_digest
            && handoff.request_id == Some(decision.request_id)
            && decision.client_request_key == handoff.client_request_key
            && decision.resume == self.envelope.resume;
        drop(book);
        if !is_own {
            ledger.violation(7, format!("{} was answered for another question", decision.request_id));
        }
        if let Err(error) = self.world.receipt_keys.verify(decision) {
            ledger.violation(8, format!("{}: {error}", decision.request_id));
        }
    }

    async fn accept(&self, decision: &Decision) -> Result<()> {
        self.acknowledged(self.client.accept(decision)).await
    }

    async fn acknowledged(&self, saying: impl Future<Output = Result<Acknowledged, Error>>) -> Result<()> {
        let begun = Instant::now();
        let acknowledged = saying.await?;
        self.world.ledger.took(Timed::Acknowledge, begun.elapsed());
        self.world.ledger.acknowledged(self.index, acknowledged.state);
        Ok(())
    }

    /// All that is left after a crash is the agent's own key for the question.
    async fn forget_and_submit_again(&self, pause: Duration) -> Result<()> {
        sleep(pause).await;
        self.submit().await.map(drop)
    }

    async fn crash_with_the_decision(&self, request_id: Uuid, pause: Duration) -> Result<()> {
        self.wait(request_id, LONG_POLL).await?;
        sleep(pause).await;
        let found = self.submit().await?;
        // It may look, which takes nothing; what can be acknowledged comes with the next lease.
        let state = self.client.request(found.request_id).await?;
        let Some(decision) = state.decision else { bail!("the decision that was delivered is gone") };
        self.world.ledger.told(self.index, Told::from(&decision));
        Ok(())
    }

    async fn defer(&self, request_id: Uuid) -> Result<()> {
        let decision = self.wait(request_id, LONG_POLL).await?;
        self.acknowledged(self.client.retry_later(&decision, "not-now", "the payment system is closed")).await
    }

    async fn fail(&self, request_id: Uuid) -> Result<()> {
        let decision = self.wait(request_id, LONG_POLL).await?;
        self.acknowledged(self.client.fail(&decision, "no-such-order", "the order was deleted")).await
    }

    /// Withdraws the question; where it was decided already, the decision stands.
    async fn cancel(&self, request_id: Uuid, pause: Duration) -> Result<()> {
        sleep(pause * 4).await;
        let told = match self.client.cancel(request_id, Some("the customer has called off")).await {
            Ok(decision) => Told::from(&decision),
            Err(Error::Refused(problem)) if problem.code == "already-decided" => {
                Told::of(&problem.decision.unwrap_or_default())
            }
            // The deadline has passed, and no sweep came yet: the decision will.
            Err(Error::Refused(problem)) if problem.code == "expired" => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.world.ledger.told(self.index, told);
        Ok(())
    }

    async fn look_now_and_then(&self, request_id: Uuid, pause: Duration) -> Result<()> {
        let decision = self.wait(request_id, Duration::ZERO).await?;
        sleep(pause).await;
        self.accept(&decision).await
    }

    /// Waits several times at once, and acknowledges as often.
    async fn wait_greedily(&self, request_id: Uuid) -> Result<()> {
        let polls = (0..3).map(|_| Box::pin(self.wait(request_id, LONG_POLL)));
        let (decision, _, _) = futures_util::future::select_all(polls).await;
        let decision = decision?;
        self.accept(&decision).await?;
        // It is no error to repeat it; what came meanwhile with another delivery is refused.
        let again = join_all((0..2).map(|_| self.client.acknowledge(&decision, Said::Accepted))).await;
        let is_fine = |said: &Result<_, Error>| {
            said.is_ok() || matches!(said, Err(Error::Refused(problem)) if problem.code == "stale-delivery")
        };
        match again.into_iter().find(|said| !is_fine(said)) {
            Some(Err(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn storm(&self, pause: Duration, repeats: usize) -> Result<()> {
        for _ in 0..repeats {
            sleep(pause / 10).await;
            self.submit().await?;
        }
        Ok(())
    }

    /// Changes the envelope under its key, sends what is malformed, and acknowledges too late.
    async fn blunder(&self, request_id: Uuid) -> Result<()> {
        self.change_the_envelope().await;
        probes::malformed(self.world, self.index, request_id).await;
        let early = self.wait(request_id, LONG_POLL).await?;
        // Somebody else has it once the lease is over.
        let current = self.wait(request_id, LONG_POLL).await?;
        let ledger = &self.world.ledger;
        ledger.count("late acknowledgements");
        match self.client.acknowledge(&early, Said::Accepted).await {
            Err(Error::Refused(problem)) if problem.code == "stale-delivery" => {}
            Ok(answered)
                if answered.state == DeliveryState::Acknowledged && early.delivery_id == current.delivery_id => {}
            other => ledger.violation(0, format!("a late acknowledgement of {request_id} came to {other:?}")),
        }
        self.accept(&current).await
    }

    async fn change_the_envelope(&self) {
        let mut changed = self.envelope.clone();
        changed.title.push_str(", and a little more");
        let ledger = &self.world.ledger;
        ledger.count("changed envelopes");
        match self.client.submit(&changed).await {
            Err(Error::Refused(problem)) if problem.code == "idempotency-key-reused" => {
                ledger.count("changed envelopes refused");
            }
            Ok(answered) => {
                let (key, id) = (&changed.client_request_key, answered.request_id);
                ledger.violation(6, format!("another envelope under {key} was taken, as {id}"));
            }
            // Lost, or cut off: not known.
            Err(Error::NoAnswer { .. }) => ledger.mark(Mark::Lost),
            Err(error) => ledger.violation(6, format!("another envelope was refused otherwise: {error}")),
        }
    }
}
