//! The ledger: calls and answers as each participant saw them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use relaytrace_client::{Actor, Cancelled, Decision, DeliveryState, Outcome, RequestState};
use reqwest::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

/// Longest time that a histogram tells apart, in microseconds: ten minutes.
const LONGEST: u64 = 600_000_000;
/// Responses that are kept, to be tampered with.
const SAMPLES: usize = 120;

/// A decision as somebody was told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// `approved`, `rejected` or `cancelled`.
    pub outcome: String,
    /// The cause of the decision.
    pub cause: String,
    /// Id of the actor of the decision.
    pub by: String,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by {} ({})", self.outcome, self.by, self.cause)
    }
}

impl Told {
    fn new(outcome: Outcome, cause: &str, by: &Actor) -> Self {
        Self { outcome: format!("{outcome:?}").to_lowercase(), cause: cause.to_owned(), by: by.id.clone() }
    }

    /// From a decision's JSON.
    pub fn of(decision: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            outcome: text(&decision["outcome"]),
            cause: text(&decision["cause"]),
            by: text(&decision["decided_by"]["id"]),
        }
    }
}

impl From<&Decision> for Told {
    fn from(decision: &Decision) -> Self {
        Self::new(decision.outcome, &decision.cause, &decision.decided_by)
    }
}

impl From<&Cancelled> for Told {
    fn from(decision: &Cancelled) -> Self {
        Self::new(decision.outcome, &decision.cause, &decision.decided_by)
    }
}

/// One handoff as far as it has come.
#[derive(Clone, Debug, Default)]
pub struct Handoff {
    /// Its agent.
    pub agent_id: String,
    /// The agent's own key.
    pub client_request_key: String,
    /// Of the action, computed here.
    pub action_digest: String,
    /// Every id that a submission of it was answered with.
    pub ids: BTreeSet<Uuid>,
    /// The first of them: what the agent goes on with.
    pub request_id: Option<Uuid>,
    /// Until when a person may answer.
    pub respond_by: Option<DateTime<Utc>>,
    /// The operators that were told that the decision is theirs (201).
    pub winners: Vec<Told>,
    /// What agents and operators were told, each once.
    pub told: Vec<Told>,
    /// Submissions sent, repetitions included.
    pub submissions: u32,
    /// Polls sent.
    pub polls: u32,
    /// Acknowledgements sent, repetitions included.
    pub acknowledgements: u32,
    /// How long the agent has polled.
    pub waited: Duration,
    /// When the operator's decision was to be sent.
    pub decides_at: Option<Instant>,
    /// Since when the agent's poll is open.
    pub polls_since: Option<Instant>,
    /// From the one to the end of the other.
    pub took: Option<Duration>,
    /// The delivery's last state, as the agent was told.
    pub state: Option<DeliveryState>,
    /// Why the agent went away before the end.
    pub gave_up: Option<String>,
    /// The agent is through.
    pub is_over: bool,
}

/// Events that are counted by second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A question was accepted.
    Asked,
    /// Approved.
    Approved,
    /// Rejected by a person.
    Rejected,
    /// Withdrawn by the agent or an administrator.
    Cancelled,
    /// Rejected by the timeout policy.
    TimedOut,
    /// The agent has its decision and was told that this is known.
    Finished,
    /// A call got no answer that counts.
    Lost,
}

/// Steps that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Timed {
    /// From the moment when a submission was due to its verified answer.
    Submit,
    /// From the moment when an operator's decision was due to its answer.
    Decide,
    /// From that moment to the agent that was long-polling before it.
    DecisionToAgent,
    /// An acknowledgement.
    Acknowledge,
}

/// A verified response, kept to be tampered with.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Whose, and with which key.
    pub agent: (usize, usize),
    /// Of the request.
    pub method: String,
    /// Of the request.
    pub nonce: String,
    /// Of the response.
    pub status: u16,
    /// Of the response.
    pub headers: HeaderMap,
    /// Of the response.
    pub body: Vec<u8>,
    /// Seconds since the epoch.
    pub at: i64,
}

/// One sweep that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Before it was sent, by our clock.
    pub began: DateTime<Utc>,
    /// After it was answered.
    pub ended: DateTime<Utc>,
}

/// Something that must not be: of which criterion (0: beyond the nine), and what.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// The criterion's number.
    pub criterion: u8,
    /// The observation.
    pub what: String,
}

/// Everything that a run recorded.
#[derive(Debug)]
pub struct Book {
    /// In the order of the plan.
    pub handoffs: Vec<Handoff>,
    /// How many of them are over.
    pub over: usize,
    /// Counters by their name.
    pub counts: BTreeMap<&'static str, u64>,
    /// Violations.
    pub violations: Vec<Violation>,
    /// In microseconds.
    pub times: BTreeMap<Timed, Histogram<u64>>,
    /// For each second since the start.
    pub seconds: Vec<BTreeMap<Mark, u64>>,
    /// The queue's depth as the service told it, by the second.
    pub depths: Vec<(u64, u64)>,
    /// Responses.
    pub samples: Vec<Sample>,
    /// Sweeps.
    pub sweeps: Vec<Sweep>,
}

/// The book, and the moment when the run began.
#[derive(Debug)]
pub struct Ledger {
    book: Mutex<Book>,
    begun: Mutex<Instant>,
}

impl Ledger {
    /// Of so many handoffs.
    pub fn new(handoffs: usize) -> Self {
        let book = Book {
            handoffs: vec![Handoff::default(); handoffs],
            over: 0,
            counts: BTreeMap::new(),
            violations: Vec::new(),
            times: BTreeMap::new(),
            seconds: Vec::new(),
            depths: Vec::new(),
            samples: Vec::new(),
            sweeps: Vec::new(),
        };
        Self { book: Mutex::new(book), begun: Mutex::new(Instant::now()) }
    }

    /// The run begins now.
    pub fn begin(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To read and write.
    pub fn open(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one to the counter.
    pub fn count(&self, what: &'static str) {
        *self.open().counts.entry(what).or_default() += 1;
    }

    /// Something that must not be.
    pub fn violation(&self, criterion: u8, what: impl Into<String>) {
        self.open().violations.push(Violation { criterion, what: what.into() });
    }

    /// Counts it in its second.
    pub fn mark(&self, what: Mark) {
        let second = usize::try_from(self.begun().elapsed().as_secs()).unwrap_or_default();
        let mut book = self.open();
        if book.seconds.len() <= second {
            book.seconds.resize(second + 1, BTreeMap::new());
        }
        *book.seconds[second].entry(what).or_default() += 1;
    }

    /// Notes how long something took.
    pub fn took(&self, what: Timed, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST);
        let mut book = self.open();
        if let std::collections::btree_map::Entry::Vacant(empty) = book.times.entry(what)
            && let Ok(histogram) = Histogram::new_with_bounds(1, LONGEST, 3)
        {
            empty.insert(histogram);
        }
        if let Some(histogram) = book.times.get_mut(&what) {
            histogram.saturating_record(micros);
        }
    }

    /// A submission was accepted. `true` if it is the first that was.
    pub fn accepted(&self, index: usize, submission: &RequestState) -> bool {
        let mut book = self.open();
        let handoff = &mut book.handoffs[index];
        let is_first = handoff.ids.is_empty();
        handoff.ids.insert(submission.request_id);
        handoff.request_id.get_or_insert(submission.request_id);
        handoff.respond_by.get_or_insert(submission.respond_by);
        *book
            .counts
            .entry(if is_first { "questions accepted" } else { "repeated submissions answered" })
            .or_default() += 1;
        drop(book);
        if is_first {
            self.mark(Mark::Asked);
        }
        is_first
    }

    /// Somebody was told a decision.
    pub fn told(&self, index: usize, told: Told) {
        let mut book = self.open();
        let handoff = &mut book.handoffs[index];
        let is_first = handoff.told.is_empty();
        let mark = match (told.outcome.as_str(), told.cause.as_str()) {
            (_, "timeout") => Mark::TimedOut,
            ("approved", _) => Mark::Approved,
            ("rejected", _) => Mark::Rejected,
            _ => Mark::Cancelled,
        };
        if !handoff.told.contains(&told) {
            handoff.told.push(told);
        }
        drop(book);
        if is_first {
            self.mark(mark);
        }
    }

    /// An acknowledgement was answered with this state.
    pub fn acknowledged(&self, index: usize, state: DeliveryState) {
        let before = self.open().handoffs[index].state.replace(state);
        if before.is_none_or(|before| before == DeliveryState::Ready) && state != DeliveryState::Ready {
            self.mark(Mark::Finished);
        }
    }

    /// Keeps a response, if more are wanted: the first ones, and then ever fewer.
    pub fn keep(&self, sample: impl FnOnce() -> Sample) {
        let mut book = self.open();
        let seen = book.counts.entry("agents' responses verified").or_default();
        *seen += 1;
        let seen = usize::try_from(*seen).unwrap_or(usize::MAX);
        if book.samples.len() < SAMPLES {
            book.samples.push(sample());
        } else if seen.is_multiple_of(97) {
            let place = (seen / 97) % SAMPLES;
            book.samples[place] = sample();
        }
    }
}

/// Our clock.
pub fn now() -> DateTime<Utc> {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    DateTime::UNIX_EPOCH + since
}
