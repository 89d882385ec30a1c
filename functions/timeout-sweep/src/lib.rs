//! `timeout-sweep`: work that is due because time has passed.
//!
//! Bounded batches, safe when overlapping: rows that another sweep holds are skipped. Invoked at least once by a
//! schedule; any number of overlapping sweeps have the effect of one.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use relaytrace_domain::{Cause, RequestId, SweepPart};
use relaytrace_domain::{Error, Result};
use relaytrace_service::auth::Admin;
use relaytrace_service::events::Published;
use relaytrace_service::http::{Problem, Routes};
use relaytrace_service::{AppState, DatabaseAuthority};
use relaytrace_store::OutboxEvent;
use serde::Serialize;
use utoipa::ToSchema;

/// Rows of one batch.
const BATCH: i64 = 200;
/// Left-over events of one batch: small rows, published together.
const RELAYED: i64 = 1_000;
/// Unfinished replays that one round continues.
const REPLAYS: i64 = 10;
/// Rounds of one sweep at the most; the next sweep does the rest.
const ROUNDS: usize = 50;

/// The counts of one sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SweepReport {
    /// Requests whose time was over and whose priority was raised.
    pub raised: u64,
    /// Requests whose time was over and that were decided.
    pub expired: u64,
    /// Requests that were escalated at half of their time.
    pub escalated: u64,
    /// Deliveries out of attempts or too old that were dead-lettered.
    pub dead_lettered: u64,
    /// Used permits whose outcome nobody has reported in time.
    pub outcomes_unknown: u64,
    /// Pending requests that were rejected because a stop covers them.
    pub stopped: u64,
    /// Events left over in the outbox that the stream now has.
    pub relayed: u64,
    /// Events that channels are told of although the stream is away.
    pub told: u64,
    /// Keys of submissions that were free and are forgotten.
    pub dedupe_dropped: u64,
    /// Unfinished replays that came a batch further, and are not finished by it.
    pub replays_advanced: u64,
    /// Items that failed again and again and are dead letters now.
    pub set_aside: u64,
}

/// The routes of this function.
pub fn router() -> Routes {
    relaytrace_service::routes!(sweep)
        .needing(DatabaseAuthority::Ops, |needs| needs.causes(&[Cause::Timeout, Cause::Admin]))
}

/// Run one sweep
///
/// Of all tenants: for administrators of the deployment's own, which is `default` unless `DEFAULT_TENANT` says otherwise.
#[utoipa::path(
    post, path = "/internal/timeout-sweep", tag = "timeout-sweep", security(("admin" = [])),
    responses(
        (status = 200, description = "What it did", body = SweepReport),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn sweep(Admin(scope): Admin, State(state): State<AppState>) -> Result<Json<SweepReport>> {
    state.admit_to_deployment(&scope)?;
    run_once(state).await.map(Json)
}

impl SweepReport {
    /// Numbers in fields of their own: alarms count them.
    fn log(&self) {
        tracing::info!(
            raised = self.raised,
            expired = self.expired,
            escalated = self.escalated,
            dead_lettered = self.dead_lettered,
            outcomes_unknown = self.outcomes_unknown,
            stopped = self.stopped,
            relayed = self.relayed,
            told = self.told,
            dedupe_dropped = self.dedupe_dropped,
            replays_advanced = self.replays_advanced,
            set_aside = self.set_aside,
            "swept"
        );
    }

    fn add(&mut self, round: Self) {
        self.raised += round.raised;
        self.expired += round.expired;
        self.escalated += round.escalated;
        self.dead_lettered += round.dead_lettered;
        self.outcomes_unknown += round.outcomes_unknown;
        self.stopped += round.stopped;
        self.relayed += round.relayed;
        self.told += round.told;
        self.dedupe_dropped += round.dedupe_dropped;
        self.replays_advanced += round.replays_advanced;
        self.set_aside += round.set_aside;
    }
}

/// One sweep: rounds of one batch of each kind until a round finds nothing. Logs only if something happened.
///
/// # Errors
/// The first that kept a part of it from being done; the other parts are done all the same.
pub async fn run_once(state: AppState) -> Result<SweepReport> {
    let started = Instant::now();
    let metrics = state.metrics.clone();
    let outcome = sweep_all(state).await;
    metrics.swept(started.elapsed());
    outcome
}

async fn sweep_all(state: AppState) -> Result<SweepReport> {
    let mut report = SweepReport::default();
    let mut failure = None;
    let mut is_stream_away = false;
    // Where nothing runs between two calls, this is the process that looks.
    if state.events.is_connected_now() {
        relaytrace_service::history::look(&state).await;
    }
    for _ in 0..ROUNDS {
        let round = Box::pin(one_round(&state, &mut failure, &mut is_stream_away)).await;
        report.add(round);
        if round == SweepReport::default() || failure.is_some() {
            break;
        }
    }
    if report != SweepReport::default() {
        report.log();
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    state.vitals.has_swept(state.clock.now());
    Ok(report)
}

/// One batch of each part. A part that fails keeps no other from being done; the first failure is kept. Once the stream
/// has not answered, events stay in the outbox: waiting for it in each round would hold everything up.
async fn one_round(state: &AppState, failure: &mut Option<Error>, is_stream_away: &mut bool) -> SweepReport {
    let mut round = SweepReport::default();
    let was_stream_away = *is_stream_away;
    let mut note = |error| {
        tracing::warn!(error = %error, "a part of a sweep failed; the others go on");
        failure.get_or_insert(error);
    };
    let mut events = Vec::new();
    for part in SweepPart::ALL {
        match batch(state, part).await {
            Ok(done) => {
                round.add(done.counted_as(part));
                events.extend(done.events);
            }
            Err(error) => {
                // Without Postgres every other part would only wait as long.
                let is_postgres_away = matches!(error, Error::Unavailable(_)) && state.store.ping().await.is_err();
                note(error);
                if is_postgres_away {
                    return round;
                }
            }
        }
    }
    if !events.is_empty() && !*is_stream_away {
        match state.events.publish(&state.store, events).await {
            Ok(published) => *is_stream_away = !published.unreached.is_empty(),
            Err(error) => note(error),
        }
    }
    if !*is_stream_away {
        match relay(state).await {
            Ok(published) => {
                round.relayed = published.acknowledged;
                *is_stream_away = !published.unreached.is_empty();
            }
            Err(error) => note(error),
        }
    }
    // What is claimed for the stream is told as well; the rest waits for nothing.
    if *is_stream_away || !state.events.is_connected_now() {
        match state.store.tell_left_over(RELAYED).await {
            Ok(told) => round.told = told,
            Err(error) => note(error),
        }
    }
    match state.store.drop_expired_dedupe(BATCH).await {
        Ok(dropped) => round.dedupe_dropped = dropped,
        Err(error) => note(error),
    }
    if !was_stream_away {
        match continue_replays(state).await {
            Ok(advanced) => round.replays_advanced = advanced,
            Err(error) => note(error),
        }
    }
    round
}

/// What one part did.
#[derive(Default)]
struct Done {
    count: u64,
    set_aside: u64,
    events: Vec<OutboxEvent>,
}

impl Done {
    fn counted_as(&self, part: SweepPart) -> SweepReport {
        let mut report = SweepReport { set_aside: self.set_aside, ..SweepReport::default() };
        match part {
            SweepPart::Raise => report.raised = self.count,
            SweepPart::Expire => report.expired = self.count,
            SweepPart::Escalate => report.escalated = self.count,
            SweepPart::DeadLetter => report.dead_lettered = self.count,
            SweepPart::Outcome => report.outcomes_unknown = self.count,
            SweepPart::Stop => report.stopped = self.count,
        }
        report
    }
}

impl From<Vec<OutboxEvent>> for Done {
    fn from(events: Vec<OutboxEvent>) -> Self {
        Self { count: events.len() as u64, set_aside: 0, events }
    }
}

/// One batch of a part; row by row where a row makes the batch fail.
async fn batch(state: &AppState, part: SweepPart) -> Result<Done> {
    match perform(state, part, None).await {
        // Nothing is wrong with a row while the database is away.
        Err(error) if matches!(error, Error::Internal(_)) => {
            tracing::error!(error = ?error, part = part.as_str(), "a batch of a sweep failed; it goes on row by row");
            row_by_row(state, part).await
        }
        done => done,
    }
}

async fn row_by_row(state: &AppState, part: SweepPart) -> Result<Done> {
    let mut all = Done::default();
    for request_id in state.store.due_for(part, BATCH).await? {
        match perform(state, part, Some(request_id)).await {
            Ok(done) => {
                all.count += done.count;
                all.events.extend(done.events);
            }
            Err(error) if matches!(error, Error::Internal(_)) => {
                let is_set_aside = state.store.note_sweep_failure(part, request_id, &error).await?;
                all.set_aside += u64::from(is_set_aside);
                tracing::error!(
                    error = ?error, part = part.as_str(), request.id = %request_id, set_aside = is_set_aside,
                    "an item of a sweep failed"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

async fn perform(state: &AppState, part: SweepPart, only: Option<RequestId>) -> Result<Done> {
    let store = &state.store;
    match part {
        SweepPart::Raise => Ok(Done { count: store.raise_due(BATCH, only).await?, ..Done::default() }),
        SweepPart::Expire => {
            let allow_auto_approve = state.timeouts.allow_auto_approve;
            store.expire_due(BATCH, only, allow_auto_approve).await.map(Done::from)
        }
        SweepPart::Escalate => store.escalate_due(BATCH, only).await.map(Done::from),
        SweepPart::DeadLetter => store.dead_letter_exhausted(BATCH, only).await.map(Done::from),
        SweepPart::Outcome => store.outcomes_unknown(BATCH, only).await.map(Done::from),
        SweepPart::Stop => store.reject_stopped(BATCH, only).await.map(Done::from),
    }
}

/// Brings every unfinished replay a batch further. One that cannot be does not hold up the others.
async fn continue_replays(state: &AppState) -> Result<u64> {
    let mut advanced = 0;
    for replay_id in state.store.running_replays(REPLAYS).await? {
        match relaytrace_service::replay::advance(state, replay_id).await {
            Ok(has_more) => advanced += u64::from(has_more),
            Err(error) => tracing::warn!(replay.id = %replay_id, error = ?error, "a replay waits for the next sweep"),
        }
    }
    Ok(advanced)
}

/// Publishes a batch of what others have left in the outbox.
async fn relay(state: &AppState) -> Result<Published> {
    if !state.events.is_connected().await {
        return Ok(Published::default());
    }
    let left_over = state.store.claim_events(RELAYED).await?;
    if left_over.is_empty() {
        return Ok(Published::default());
    }
    let published = state.events.publish(&state.store, left_over).await?;
    if !published.unreached.is_empty() {
        state.store.release_events(&published.unreached).await?;
    }
    Ok(published)
}

/// Sweeps at once and then every period, until the process stops: the schedule of a deployment in one process.
pub async fn schedule(state: AppState, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !state.events.is_stopping() {
        ticks.tick().await;
        if let Err(error) = run_once(state.clone()).await {
            tracing::warn!(error = %error, "a sweep did not end; the next goes on");
        }
    }
}
