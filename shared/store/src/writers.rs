//! What comes often, submissions, decisions, leases and acknowledgements: in batches where a process may keep running.

use std::ops::Deref;
use std::sync::Arc;

use relaytrace_domain::rules::Latitude;
use relaytrace_domain::signing::Attestor;
use relaytrace_domain::{Clock, DeliveryRules, Error, KeyId, PermitRules, RequestId, Result};
use sqlx::postgres::PgConnectOptions;

use crate::acknowledgements::{Ack, Acked};
use crate::batches::{Batches, Row, alone};
use crate::database::Database;
use crate::decided_at_once::Settling;
use crate::decisions::{Attested, Decided, Deciding};
use crate::judging::Ruling;
use crate::leases::{AnyDue, Named};
use crate::measures::Measures;
use crate::permits::{Consumed, Consuming, Noted, Reporting};
use crate::requests::{Standing, Submitted, Submitting, Taking};
use crate::rule_counts::RuleCounts;
use crate::views::View;
use crate::votes::Voting;
use crate::{Caller, OutboxEvent};
use relaytrace_domain::Submission;

/// The database, and the batches of its frequent writes.
#[derive(Clone, Debug)]
pub struct Store {
    /// One value for all: calls clone the store several times.
    database: Arc<Database>,
    /// `None`: each write has a statement of its own.
    batches: Option<Arc<Batched>>,
}

/// The batches, one for each kind of row.
#[derive(Debug, Default)]
pub(crate) struct Batched {
    submitting: Batches<Submitting>,
    settling: Batches<Settling>,
    acknowledging: Batches<Ack>,
    pub(crate) deciding: Batches<Attested>,
    pub(crate) voting: Batches<Voting>,
    consuming: Batches<Consuming>,
    reporting: Batches<Reporting>,
    pub(crate) looking: Batches<AnyDue>,
    pub(crate) naming: Batches<Named>,
    pub(crate) viewing: Batches<View>,
}

impl Deref for Store {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

impl Store {
    /// A store that connects when it is first used, so that starting does not need the database.
    #[must_use]
    pub fn connect_lazily(options: PgConnectOptions, max_connections: usize, clock: Clock) -> Self {
        Self { database: Arc::new(Database::connect_lazily(options, max_connections, clock)), batches: None }
    }

    /// Delivers by these rules, not by the default ones.
    #[must_use]
    pub fn delivering(mut self, rules: DeliveryRules) -> Self {
        Arc::make_mut(&mut self.database).deliver_by(rules);
        self
    }

    /// Handles permits by these rules, not by the default ones.
    #[must_use]
    pub fn permitting(mut self, rules: PermitRules) -> Self {
        Arc::make_mut(&mut self.database).permit_by(rules);
        self
    }

    /// Signs decisions with these keys before they are made. Without any, nothing can be decided.
    #[must_use]
    pub fn attesting(mut self, attestor: Arc<Attestor>) -> Self {
        Arc::make_mut(&mut self.database).attest_by(attestor);
        self
    }

    /// Measures here, not by itself.
    #[must_use]
    pub fn measuring(mut self, measures: Arc<Measures>) -> Self {
        Arc::make_mut(&mut self.database).measure_by(measures);
        self
    }

    /// Writes submissions, decisions and acknowledgements that come at the same time together, by tasks of this process:
    /// not where nothing may be left running after an answer.
    #[must_use]
    pub fn in_batches(self) -> Self {
        Self { batches: Some(Arc::default()), ..self }
    }

    /// Counts what rules do together with the process's other stores.
    #[must_use]
    pub fn counting_in(mut self, counts: Arc<RuleCounts>) -> Self {
        Arc::make_mut(&mut self.database).rule_counts = counts;
        self
    }

    /// Whether tasks may go on after an answer.
    pub(crate) fn may_keep_running(&self) -> bool {
        self.batches.is_some()
    }

    /// Writes a row, in a batch or with a statement of its own. `None`: nothing was written.
    pub(crate) async fn write<R: Row>(
        &self,
        batches: fn(&Batched) -> &Batches<R>,
        row: &Arc<R>,
    ) -> Result<Option<R::Written>> {
        match &self.batches {
            Some(batched) => batches(batched).write(self, row.clone()).await,
            None => alone(self, &**row).await,
        }
    }

    /// Has the database prepare and plan the frequent statements in the session that is taken first. Planning the largest
    /// takes tens of milliseconds, for which the first callers would wait. Where nothing is batched: nothing.
    pub async fn warm_up(&self) {
        if self.batches.is_none() {
            return;
        }
        without_rows::<Submitting>(self).await;
        without_rows::<Attested>(self).await;
        without_rows::<Ack>(self).await;
        without_rows::<AnyDue>(self).await;
        without_rows::<Named>(self).await;
        without_rows::<View>(self).await;
        without_rows::<Consuming>(self).await;
        without_rows::<Reporting>(self).await;
    }

    /// KiB of writes and polls that wait to be written or are being written, in batches.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let waiting = |of: &Arc<Batched>| {
            let submissions = of.submitting.waiting() + of.settling.waiting();
            let handoffs = submissions + of.acknowledging.waiting() + of.deciding.waiting();
            let permits = of.consuming.waiting() + of.reporting.waiting();
            handoffs + of.voting.waiting() + permits + of.looking.waiting() + of.naming.waiting() + of.viewing.waiting()
        };
        self.batches.as_ref().map_or(0, waiting)
    }

    /// Stores a submission as a new request, with its decision where a rule decides it, or finds the one that it repeats.
    ///
    /// # Errors
    /// [`Error::IdempotencyKeyReused`], [`Error::Invalid`] where `respond_by` is past or lengthens the policy's
    /// time or the priority is lower than a policy lets this action have, [`Error::Unauthenticated`] where the key or
    /// agent is no longer active, [`Error::RateLimited`] where the agent has a cap and has reached it.
    pub async fn submit(
        &self,
        caller: &Caller,
        submission: Submission,
        taking: Taking,
        traceparent: Option<&str>,
    ) -> Result<Submitted> {
        // Contract, "Rules": who was behind starts again, at most 3 times, then without rules that approve.
        const RESTARTS: usize = 3;
        const TRIES: usize = RESTARTS + 4;
        let mut submission = Arc::new(submission);
        let allowed = if taking.may_approve { Latitude::Approve } else { Latitude::Reject };
        let mut latitude = allowed;
        let mut restarts = 0;
        for _ in 0..TRIES {
            let is_last = restarts >= RESTARTS;
            let most = if is_last { latitude.min(Latitude::Reject) } else { latitude };
            let ruling = self.ruling(&caller.agent_id, &submission, most);
            let row = Arc::new(Submitting {
                request_id: RequestId::mint(self.clock().now()),
                caller: caller.clone(),
                submission: submission.clone(),
                kept_seconds: taking.kept_seconds,
                traceparent: traceparent.map(str::to_owned),
                ruling: ruling.map(|ruling| Ruling { is_last, ..ruling }),
            });
            let settling = self.settling(&row, taking.is_leased)?;
            let is_settling = settling.is_some();
            if let Some(written) = self.write_submission(&row, settling).await? {
                self.count_rules(row.ruling.as_ref()).await;
                return Ok(written);
            }
            match self.standing_request(&row).await? {
                Standing::Request(standing) => {
                    let (request, delivered) = self.request_of(caller, standing).await?;
                    return Ok(Submitted::Duplicate(request, delivered.map(Box::new)));
                }
                Standing::Priority(priority) => Arc::make_mut(&mut submission).envelope.priority = priority,
                Standing::Rules(tenant, version) => {
                    self.learn_rules(&caller.agent_id, tenant, version).await?;
                    restarts += 1;
                    // What the version before could not decide, this one may.
                    latitude = allowed;
                }
                // It is frozen, or the rule has decided as often as it may.
                Standing::Nothing if is_settling => latitude = Latitude::Ask,
                Standing::Nothing => {}
            }
        }
        Err(Error::Unavailable(anyhow::anyhow!("a submission found neither its place nor what took it")))
    }

    async fn write_submission(&self, row: &Arc<Submitting>, settling: Option<Settling>) -> Result<Option<Submitted>> {
        let Some(settling) = settling else { return self.write(|batched| &batched.submitting, row).await };
        let decided = self.write(|batched| &batched.settling, &Arc::new(settling)).await?;
        Ok(decided.map(|decided| Submitted::Decided(Box::new(decided))))
    }

    /// Decides a request: its agent, also past `respond_by` until a sweep has run; an administrator, as long as it is
    /// pending. Operators answer ([`Store::answer`]).
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the agent's key is no longer active, [`Error::NotFound`], or the first that
    /// applies of [`Error::AlreadyDecided`] (but for the same decision by the same one) and [`Error::ActionMismatch`].
    ///
    /// `taker` is the key of a parked poll that may take the decision: its statement leases the delivery to it.
    pub async fn decide(&self, deciding: Deciding, taker: Option<&KeyId>) -> Result<Decided> {
        let attested = Arc::new(self.attest(deciding.clone()).await?.taken_by(taker));
        match self.write(|batched| &batched.deciding, &attested).await? {
            Some(decided) => Ok(decided),
            None => Box::pin(self.decided_before(&deciding)).await,
        }
    }

    /// Records what an agent says of its latest attempt.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active, [`Error::NotFound`],
    /// [`Error::StaleDelivery`], [`Error::Conflict`] where the request is not decided.
    pub async fn acknowledge(&self, ack: Ack) -> Result<Acked> {
        let ack = Arc::new(ack);
        match self.write(|batched| &batched.acknowledging, &ack).await? {
            Some(acked) => Ok(acked),
            None => Box::pin(self.acknowledged_before(&ack)).await,
        }
    }

    /// Uses an approval: once, by whichever attempt is first, for the action that was approved.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active, [`Error::NotFound`], or the first that
    /// applies of [`Error::NotApproved`], [`Error::AlreadyConsumed`], [`Error::ActionMismatch`],
    /// [`Error::PermitRevoked`], [`Error::Frozen`] and [`Error::PermitExpired`].
    pub async fn consume(&self, consuming: Consuming) -> Result<Consumed> {
        const TRIES: usize = 3;
        let consuming = Arc::new(consuming);
        for _ in 0..TRIES {
            if let Some(consumed) = self.write(|batched| &batched.consuming, &consuming).await? {
                return Ok(consumed);
            }
            if let Some(consumed) = Box::pin(self.consumed_before(&consuming)).await? {
                return Ok(consumed);
            }
        }
        Err(Error::Unavailable(anyhow::anyhow!("a permit was not used and no reason was found")))
    }

    /// Notes what became of a use: the first report, and what replaces `unknown`.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active, [`Error::NotFound`],
    /// [`Error::NotConsumed`], [`Error::OutcomeConflict`].
    pub async fn report_outcome(&self, reporting: Reporting) -> Result<Noted> {
        const TRIES: usize = 3;
        let reporting = Arc::new(reporting);
        for _ in 0..TRIES {
            if let Some(noted) = self.write(|batched| &batched.reporting, &reporting).await? {
                return Ok(noted);
            }
            if let Some(noted) = Box::pin(self.reported_before(&reporting)).await? {
                return Ok(noted);
            }
        }
        Err(Error::Unavailable(anyhow::anyhow!("an outcome was not noted and no reason was found")))
    }

    /// Decides up to three times `limit` requests whose time is over, or only `only` of them: rejects, or approves
    /// where the policy says so and the deployment allows it. Safe when overlapping: rows that another sweep holds
    /// are skipped.
    pub async fn expire_due(
        &self,
        limit: i64,
        only: Option<RequestId>,
        allow_auto_approve: bool,
    ) -> Result<Vec<OutboxEvent>> {
        let due = self.due_to_expire(limit, only, allow_auto_approve).await?;
        self.decide_all(due).await
    }

    /// Rejects up to three times `limit` pending requests that a stop covers, or only `only` of them. Safe when overlapping.
    pub async fn reject_stopped(&self, limit: i64, only: Option<RequestId>) -> Result<Vec<OutboxEvent>> {
        let stopped = self.stopped(limit, only).await?;
        self.decide_all(stopped).await
    }

    /// Decides what a sweep has found, with one statement.
    async fn decide_all(&self, found: Vec<Deciding>) -> Result<Vec<OutboxEvent>> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut attested = Vec::with_capacity(found.len());
        for deciding in found {
            attested.push(self.attest(deciding).await?);
        }
        let decided = Attested::write(self, &attested.iter().collect::<Vec<_>>()).await?;
        Ok(decided.into_iter().filter_map(|decided| decided?.event).collect())
    }
}

/// Sends the statement of this kind for no row. An authority that may not write such rows is refused, which is no fault.
async fn without_rows<R: Row>(database: &Database) {
    if let Err(error) = Box::pin(R::write(database, &[])).await {
        tracing::debug!(error = format!("{error:#}"), "a statement was not prepared before its first row");
    }
}
