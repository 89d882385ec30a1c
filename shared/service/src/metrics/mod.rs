//! What those who run the service see of it (docs/guides/observe.md): measured as it works, and looked up where it stands
//! in the database. A scrape never waits long for the database, and never fails for want of it.

mod calls;
mod emf;
mod exposition;
mod listener;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use relaytrace_store::{CALL_SECONDS, Gauges, Histogram, Measures, Store};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::http::Endpoint;
use crate::state::AppState;
pub(crate) use calls::Calls;
use emf::Sample;
use exposition::{Family, Labels, Values};
pub(crate) use listener::listen;

/// How long a look at the database is good for: scrapes that come more often share one.
const LOOK_LASTS: Duration = Duration::from_secs(2);
/// Longest wait of a scrape for it.
const LOOK_DEADLINE: Duration = Duration::from_secs(1);

const CALLS: &str = "relaytrace_http_request_duration_seconds";
const CALL_LABELS: [&str; 3] = ["function", "route", "status"];
const DECISIONS: &str = "relaytrace_decision_seconds";
const DECISION_LABELS: [&str; 3] = ["priority", "outcome", "cause"];
const DELIVERIES: &str = "relaytrace_delivery_seconds";
const SWEEPS: &str = "relaytrace_sweep_seconds";

/// The measures of a process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    measures: Arc<Measures>,
    calls: StdMutex<Arc<Calls>>,
    sweeps: Histogram,
    /// The latest look at the database, by whoever came first. `None` in it: it failed.
    looked: Mutex<Option<(Instant, Option<Gauges>)>>,
    failed_looks: AtomicU64,
    address: OnceLock<SocketAddr>,
}

impl Metrics {
    /// Those of statements are measured by the stores.
    #[must_use]
    pub fn new(measures: Arc<Measures>) -> Self {
        let keeps = measures.keeps();
        Self(Arc::new(Inner {
            measures,
            calls: StdMutex::default(),
            sweeps: Histogram::new(CALL_SECONDS, keeps),
            looked: Mutex::default(),
            failed_looks: AtomicU64::new(0),
            address: OnceLock::new(),
        }))
    }

    /// A sweep has ended, well or not.
    pub fn swept(&self, time: Duration) {
        self.0.sweeps.observe_time(time);
    }

    /// A decision was handed to its agent for the first time, so long after it was made.
    pub fn delivered(&self, after: TimeDelta) {
        self.0.measures.delivered(after.as_seconds_f64());
    }

    /// Where it is scraped; `None`: nowhere, or not yet.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address.get().copied()
    }

    /// Calls of a router with these endpoints, which are exported from now on.
    pub(crate) fn calls_of(&self, endpoints: &[Endpoint]) -> Arc<Calls> {
        let calls = Arc::new(Calls::new(endpoints, self.0.measures.keeps()));
        *self.0.calls.lock().unwrap_or_else(PoisonError::into_inner) = calls.clone();
        calls
    }

    /// What stands in the database. Callers share one look, which is bounded in time; `None`: it failed.
    async fn look(&self, store: &Store) -> Option<Gauges> {
        let mut looked = timeout(LOOK_DEADLINE, self.0.looked.lock()).await.ok()?;
        if let Some((at, gauges)) = &*looked
            && at.elapsed() < LOOK_LASTS
        {
            return gauges.clone();
        }
        // Where the caller hangs up during the look, the next one does not look at once again.
        *looked = Some((Instant::now(), None));
        let found = timeout(LOOK_DEADLINE, store.gauges()).await;
        let gauges = found.ok().and_then(Result::ok);
        if gauges.is_none() {
            self.0.failed_looks.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("the database was not looked at in time for a scrape");
        }
        *looked = Some((Instant::now(), gauges.clone()));
        gauges
    }

    /// On Lambda: writes what was measured since the last time.
    pub(crate) fn write(&self, state: &AppState) {
        let (inner, measures) = (&self.0, &self.0.measures);
        let calls = inner.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut samples = Vec::new();
        let mut add = |name, labels: Labels, histogram: &Histogram| {
            let values = histogram.take();
            if !values.is_empty() {
                samples.push(Sample { name, labels, values });
            }
        };
        for (labels, histogram) in calls.each() {
            add(CALLS, labelled(&CALL_LABELS, labels), histogram);
        }
        for (labels, histogram) in measures.decisions() {
            add(DECISIONS, labelled(&DECISION_LABELS, labels), histogram);
        }
        add(DELIVERIES, Labels::new(), measures.deliveries());
        add(SWEEPS, Labels::new(), &inner.sweeps);
        emf::write(&samples, &state.metrics_namespace, state.clock.wall());
    }

    /// On Lambda, where this process sweeps: writes what stands in the database as well.
    pub(crate) async fn write_standing(&self, state: &AppState) {
        self.write(state);
        let Some(age) = state.vitals.last_swept(state.clock.now()) else { return };
        let mut families = vec![pool(state), sweep_age(age)];
        families.extend(self.look(&state.store).await.into_iter().flat_map(|gauges| standing(&gauges, state)));
        let samples = families.into_iter().flat_map(Family::gauges);
        let samples = samples.map(|(name, labels, value)| Sample { name, labels, values: vec![value] });
        emf::write(&samples.collect::<Vec<_>>(), &state.metrics_namespace, state.clock.wall());
    }

    /// Every measure at this moment.
    async fn families(&self, state: &AppState) -> Vec<Family> {
        let mut families = self.measured(state);
        let gauges = self.look(&state.store).await;
        let failed_looks = Values::Counter(self.0.failed_looks.load(Ordering::Relaxed));
        families.push(Family::new(
            "relaytrace_scrape_failures",
            "Looks at the database that were not answered in time: its gauges are absent then",
            failed_looks,
        ));
        families.extend(gauges.into_iter().flat_map(|gauges| standing(&gauges, state)));
        families
    }

    /// What this process measures by itself.
    fn measured(&self, state: &AppState) -> Vec<Family> {
        let (inner, measures) = (&self.0, &self.0.measures);
        let calls = inner.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let calls = calls.each().map(|(labels, seen)| (labelled(&CALL_LABELS, labels), seen.seen()));
        let decisions = measures.decisions();
        let decisions = decisions.map(|(labels, seen)| (labelled(&DECISION_LABELS, labels), seen.seen()));
        let batches = measures.batches().map(|(kind, seen)| (labelled(&["kind"], [kind]), seen.seen()));
        let unlabelled = |histogram: &Histogram| Values::Histograms(vec![(Labels::new(), histogram.seen())]);
        let mut families = vec![
            Family::new(
                CALLS,
                "Calls by function, route and status, from their first byte to their answer",
                Values::Histograms(calls.collect()),
            ),
            Family::new(
                DECISIONS,
                "Decisions that this process made, from the submission of their requests",
                Values::Histograms(decisions.collect()),
            ),
            Family::new(
                DELIVERIES,
                "First deliveries to agents by this process, from their decisions",
                unlabelled(measures.deliveries()),
            ),
            Family::new(
                "relaytrace_batch_rows",
                "Rows of the statements that this process has sent",
                Values::Histograms(batches.collect()),
            ),
            Family::new(SWEEPS, "Sweeps of this process", unlabelled(&inner.sweeps)),
            pool(state),
        ];
        families.extend(state.vitals.last_swept(state.clock.now()).map(sweep_age));
        families
    }
}

fn labelled<const N: usize, V: ToString>(names: &[&'static str; N], values: [V; N]) -> Labels {
    names.iter().zip(values).map(|(name, value)| (*name, value.to_string())).collect()
}

fn sweep_age(age: TimeDelta) -> Family {
    Family::new(
        "relaytrace_sweep_age_seconds",
        "Since the last sweep of this process that did all that it had to",
        Values::Gauges(vec![(Labels::new(), age.as_seconds_f64())]),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a pool has thousands at the most")]
fn pool(state: &AppState) -> Family {
    let (idle, busy, wanted) = state
        .pools()
        .fold((0, 0, 0), |(idle, busy, wanted), pool| (idle + pool.idle, busy + pool.busy, wanted + pool.wanted));
    let of = |name: &str, count: usize| (labelled(&["state"], [name]), count as f64);
    Family::new(
        "relaytrace_pool_connections",
        "Connections of this process to Postgres; wanted: statements that wait for one",
        Values::Gauges(vec![of("idle", idle), of("busy", busy), of("wanted", wanted)]),
    )
}

/// What stands in the database, the same in every process.
#[expect(clippy::cast_precision_loss, reason = "counts end at 10,000")]
fn standing(gauges: &Gauges, state: &AppState) -> Vec<Family> {
    let now = state.clock.now();
    let by_priority = |name: &String| labelled(&["priority"], [name]);
    let pending = gauges.pending.iter().map(|(name, count, _)| (by_priority(name), *count as f64));
    let oldest = gauges.pending.iter().map(|(name, _, since)| {
        let age = since.map_or(0.0, |since| (now - since).as_seconds_f64().max(0.0));
        (by_priority(name), age)
    });
    let dead_letters = gauges.dead_letters.iter();
    let dead_letters = dead_letters.map(|(kind, count)| (labelled(&["kind"], [kind]), *count as f64));
    vec![
        Family::new(
            "relaytrace_pending",
            "Pending requests of all tenants; from 10000 on a lower bound",
            Values::Gauges(pending.collect()),
        ),
        Family::new(
            "relaytrace_oldest_pending_seconds",
            "Age of the oldest pending request, 0 where there is none; among 10000 and more, of those due first",
            Values::Gauges(oldest.collect()),
        ),
        Family::new(
            "relaytrace_outbox_rows",
            "Events that are not known to be on the stream; from 10000 on a lower bound",
            Values::Gauges(vec![(Labels::new(), gauges.outbox as f64)]),
        ),
        Family::new(
            "relaytrace_dead_letters",
            "Open dead letters of all tenants; from 10000 on a lower bound",
            Values::Gauges(dead_letters.collect()),
        ),
    ]
}
