//! What this process measures as it works: lock-free, without an allocation for an observation.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use relaytrace_domain::{Cause, Outcome, Priority};

/// Upper bounds of calls and statements, in seconds.
pub const CALL_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds of decisions, in seconds: people think, and a policy's time may be a day.
const DECISION_SECONDS: &[f64] =
    &[1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];
/// Upper bounds of deliveries, in seconds: at once, or after a lease that nobody acknowledged.
const DELIVERY_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0];
/// Upper bounds of the rows of a statement.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Values that are kept until they are taken, at the most: far more than one call or one sweep measures, and 80 KB.
const MOST_KEPT: usize = 10_000;

/// How often a value was in each of some ranges, and their sum.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above them all.
    counts: Box<[AtomicU64]>,
    /// In millionths.
    sum: AtomicU64,
    /// The values themselves, where somebody takes them.
    kept: Option<Mutex<Vec<f64>>>,
}

/// What a histogram has seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Upper bounds and how many values are between each and the one before; the last has none.
    pub buckets: Vec<(f64, u64)>,
    /// How many values in all.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Histogram {
    /// An empty one with these upper bounds, which are in ascending order. With `keeps` it also keeps its values for
    /// [`Self::take`].
    #[must_use]
    pub fn new(bounds: &'static [f64], keeps: bool) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0), kept: keeps.then(Mutex::default) }
    }

    /// Notes a value; one that is negative, as clocks of two machines may make it, counts as zero.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative, and `as` saturates"
    )]
    pub fn observe(&self, value: f64) {
        let value = value.max(0.0);
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
        if let Some(kept) = &self.kept {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MOST_KEPT {
                kept.push(value);
            }
        }
    }

    /// Notes a time.
    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// What it has seen so far.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a sum that long has lost its millionths anyway")]
    pub fn seen(&self) -> Seen {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Seen { buckets, count, sum: self.sum.load(Ordering::Relaxed) as f64 / 1e6 }
    }

    /// The values since the last time, 10,000 at the most; none where it keeps none.
    #[must_use]
    pub fn take(&self) -> Vec<f64> {
        let kept = self.kept.as_ref();
        kept.map_or_else(Vec::new, |kept| std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Statements that are written over rows (`batches.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Submissions.
    Submit,
    /// Submissions that a rule decides.
    SubmitDecided,
    /// Decisions.
    Decide,
    /// Approvals before the last.
    Vote,
    /// Acknowledgements.
    Acknowledge,
    /// Uses of permits.
    Consume,
    /// Outcomes of uses.
    Outcome,
    /// Polls for whatever is due.
    Lease,
    /// Polls for named requests.
    LeaseNamed,
    /// Looks at one request, which take nothing.
    Look,
}

impl BatchKind {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Submit, "submit"),
        (Self::SubmitDecided, "submit_decided"),
        (Self::Decide, "decide"),
        (Self::Vote, "vote"),
        (Self::Acknowledge, "acknowledge"),
        (Self::Consume, "consume"),
        (Self::Outcome, "outcome"),
        (Self::Lease, "lease"),
        (Self::LeaseNamed, "lease_named"),
        (Self::Look, "look"),
    ];
}

const PRIORITIES: [(Priority, &str); 3] = [(Priority::P1, "P1"), (Priority::P2, "P2"), (Priority::P3, "P3")];
const OUTCOMES: [Outcome; 4] = [Outcome::Approved, Outcome::Rejected, Outcome::Cancelled, Outcome::Responded];
const CAUSES: [Cause; 5] = [Cause::Operator, Cause::Timeout, Cause::Admin, Cause::Agent, Cause::Policy];
const DECISIONS: usize = PRIORITIES.len() * OUTCOMES.len() * CAUSES.len();

/// Measures of the statements of a process: one value for all its pools.
#[derive(Debug)]
pub struct Measures {
    keeps: bool,
    /// By priority, outcome and cause, each made when it is first needed.
    decisions: [OnceLock<Histogram>; DECISIONS],
    deliveries: Histogram,
    batches: [Histogram; BatchKind::ALL.len()],
}

impl Default for Measures {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Measures {
    /// With `keeps` its values can be taken ([`Histogram::take`]).
    #[must_use]
    pub fn new(keeps: bool) -> Self {
        Self {
            keeps,
            decisions: array::from_fn(|_| OnceLock::new()),
            deliveries: Histogram::new(DELIVERY_SECONDS, keeps),
            batches: array::from_fn(|_| Histogram::new(ROWS, false)),
        }
    }

    /// Whether its values can be taken.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// A decision was made, so many seconds after its request was submitted.
    pub fn decided(&self, priority: Priority, outcome: Outcome, cause: Cause, seconds: f64) {
        let of_priority = priority as usize - 1;
        let (of_outcome, of_cause) = (outcome as usize, cause as usize);
        let at = (of_priority * OUTCOMES.len() + of_outcome) * CAUSES.len() + of_cause;
        self.decisions[at].get_or_init(|| Histogram::new(DECISION_SECONDS, self.keeps)).observe(seconds);
    }

    /// A decision was handed to its agent for the first time, so many seconds after it was made.
    pub fn delivered(&self, seconds: f64) {
        self.deliveries.observe(seconds);
    }

    /// A statement was sent with so many rows.
    #[expect(clippy::cast_precision_loss, reason = "64 at the most")]
    pub(crate) fn sent(&self, kind: BatchKind, rows: usize) {
        self.batches[kind as usize].observe(rows as f64);
    }

    /// Decisions by priority, outcome and cause: those that there were.
    pub fn decisions(&self) -> impl Iterator<Item = ([&'static str; 3], &Histogram)> {
        self.decisions.iter().enumerate().filter_map(|(at, histogram)| {
            let (_, priority) = PRIORITIES[at / (OUTCOMES.len() * CAUSES.len())];
            let outcome = OUTCOMES[at / CAUSES.len() % OUTCOMES.len()].as_str();
            Some(([priority, outcome, CAUSES[at % CAUSES.len()].as_str()], histogram.get()?))
        })
    }

    /// Deliveries.
    #[must_use]
    pub fn deliveries(&self) -> &Histogram {
        &self.deliveries
    }

    /// Rows of statements, by kind.
    pub fn batches(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        BatchKind::ALL.iter().map(|(kind, name)| (*name, &self.batches[*kind as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_once_at_the_first_bound_that_is_not_below_it() {
        let histogram = Histogram::new(&[1.0, 2.0], false);
        for value in [-1.0, 0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let seen = histogram.seen();
        assert_eq!(seen.buckets, [(1.0, 3), (2.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((seen.count, seen.sum), (5, 12.0));
        assert!(histogram.take().is_empty());
    }

    #[test]
    fn kept_values_are_taken_once_and_are_bounded() {
        let histogram = Histogram::new(&[1.0], true);
        (0..=MOST_KEPT).for_each(|_| histogram.observe(2.0));
        assert_eq!(histogram.take().len(), MOST_KEPT);
        assert!(histogram.take().is_empty());
        assert_eq!(histogram.seen().count, MOST_KEPT as u64 + 1);
    }

    #[test]
    fn each_decision_is_counted_under_its_own_names() {
        let measures = Measures::default();
        for (priority, name) in PRIORITIES {
            for outcome in OUTCOMES {
                for cause in CAUSES {
                    measures.decided(priority, outcome, cause, 1.0);
                    let expected = [name, outcome.as_str(), cause.as_str()];
                    let seen = measures.decisions().find(|(names, _)| *names == expected);
                    assert_eq!(seen.map(|(_, histogram)| histogram.seen().count), Some(1), "{expected:?}");
                }
            }
        }
        assert_eq!(measures.decisions().count(), DECISIONS);
    }

    #[test]
    fn kinds_of_batches_stand_in_their_order() {
        for (at, (kind, _)) in BatchKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, at);
        }
    }
}
