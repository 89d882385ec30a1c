//! Lower bounds for scanning due rows: deliveries of an agent, events that were left over.
//!
//! Every row leaves entries in the index of due rows, which stay until vacuum may remove them; a transaction that is
//! left open prevents that. An empty poll that scans all of them gets slower with each handoff. So a process remembers a
//! hint: no row that is there is due before it. Each scan moves it up.
//!
//! A row is due at the time of the statement that makes it so, or later. Below the hint it can only come where that
//! statement committed more than [`MARGIN`] after it took its time, or where the database's clock went back. The server
//! ends statements long before the margin is over (`pool.rs`), so only a commit itself can take that long. Where this
//! process sent that statement, it has seen its caller give up, and no hint from before its end counts. Where another
//! process did, the scan of everything that is made every [`SCAN_ALL_AFTER`] finds the row. A hint is only about speed:
//! without one, everything is scanned.

use std::hash::Hash;

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;

/// Statements that commit within it after they took their time are never overlooked: more than twice the longest.
const MARGIN: TimeDelta = TimeDelta::seconds(5);
/// A row that was committed below the hint all the same is overlooked for at most this time.
const SCAN_ALL_AFTER: TimeDelta = TimeDelta::seconds(60);
/// How many hints are remembered.
const CAPACITY: usize = 10_000;

/// The hints of this process, by whose rows they are about.
#[derive(Debug)]
pub(super) struct ScanHints<K: Eq + Hash + Clone>(Cache<K, Hint>);

#[derive(Clone, Copy, Debug)]
struct Hint {
    /// No row that is there is due before.
    from: DateTime<Utc>,
    /// When a scan of everything last began.
    scanned_all_at: DateTime<Utc>,
    /// Statements whose end nobody saw, before that.
    unseen_ends: u64,
}

/// One scan, from its start to its result. Dropped without a recorded result, it is as if it had not begun.
#[derive(Debug)]
pub(super) struct Scan<'a, K: Eq + Hash + Clone> {
    hints: &'a ScanHints<K>,
    key: &'a K,
    /// Only rows that are due from here on; `None`: all.
    pub(super) from: Option<DateTime<Utc>>,
    scanned_all_at: DateTime<Utc>,
    unseen_ends: u64,
}

impl<K: Clone + Eq + Hash> ScanHints<K> {
    pub(super) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// A scan that starts now. Hints from before the last of `unseen_ends` do not count.
    pub(super) fn begin<'a>(&'a self, key: &'a K, now: DateTime<Utc>, unseen_ends: u64) -> Scan<'a, K> {
        let known = self.0.get(key);
        let is_fresh = |hint: &Hint| {
            hint.unseen_ends == unseen_ends
                && (TimeDelta::zero()..SCAN_ALL_AFTER).contains(&(now - hint.scanned_all_at))
        };
        let (from, scanned_all_at) = match known {
            Some(hint) if is_fresh(&hint) => (Some(hint.from), hint.scanned_all_at),
            known => {
                // One scans everything; those beside it need not, unless rows may have come below their hint.
                if let Some(hint) = known.filter(|hint| hint.unseen_ends == unseen_ends) {
                    self.0.insert(key.clone(), Hint { scanned_all_at: now, ..hint });
                }
                (None, now)
            }
        };
        Scan { hints: self, key, from, scanned_all_at, unseen_ends }
    }

    /// Scans everything next time.
    pub(super) fn invalidate(&self, key: &K) {
        self.0.remove(key);
    }
}

impl<K: Clone + Eq + Hash> Scan<'_, K> {
    /// What the scan showed at `at`, the database's time: the first row that is due, locked or not.
    pub(super) fn record(self, at: DateTime<Utc>, first: Option<DateTime<Utc>>) {
        self.record_at(at, first);
        std::mem::forget(self);
    }

    fn record_at(&self, at: DateTime<Utc>, first: Option<DateTime<Utc>>) {
        let hints = &self.hints.0;
        let is_of_this_scan =
            |hint: Hint| hint.scanned_all_at == self.scanned_all_at && hint.unseen_ends == self.unseen_ends;
        // Another has scanned everything since, and knows better.
        if self.from.is_some() && !hints.get(self.key).is_some_and(is_of_this_scan) {
            return;
        }
        if self.from.is_some_and(|from| at < from) {
            self.hints.invalidate(self.key);
            return;
        }
        let from = first.map_or(at - MARGIN, |first| first.min(at - MARGIN));
        // Never down again but by a scan of everything: what this scan began with was true.
        let from = self.from.map_or(from, |before| before.max(from));
        let hint = Hint { from, scanned_all_at: self.scanned_all_at, unseen_ends: self.unseen_ends };
        hints.insert(self.key.clone(), hint);
    }
}

impl<K: Clone + Eq + Hash> Drop for Scan<'_, K> {
    fn drop(&mut self) {
        if self.from.is_none() {
            self.hints.invalidate(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn the_hint_follows_the_time_and_stops_below_the_first_delivery() {
        let (hints, agent) = (ScanHints::new(), "a");
        let scan = hints.begin(&agent, at(0), 0);
        assert_eq!(scan.from, None);
        scan.record(at(0), None);
        let scan = hints.begin(&agent, at(10), 0);
        assert_eq!(scan.from, Some(at(-5)));
        scan.record(at(10), Some(at(2)));
        assert_eq!(hints.begin(&agent, at(11), 0).from, Some(at(2)), "a delivery that somebody holds is not passed");
    }

    #[test]
    fn one_scan_in_a_minute_is_of_everything_and_a_failed_one_is_made_up_for() {
        let (hints, agent) = (ScanHints::new(), "a");
        hints.begin(&agent, at(0), 0).record(at(0), None);
        let beside = hints.begin(&agent, at(59), 0);
        let all = hints.begin(&agent, at(60), 0);
        assert_eq!((beside.from.is_some(), all.from), (true, None));
        assert!(hints.begin(&agent, at(60), 0).from.is_some(), "one is enough");
        all.record(at(60), Some(at(-100)));
        beside.record(at(61), None);
        assert_eq!(hints.begin(&agent, at(62), 0).from, Some(at(-100)), "an older scan does not hide what was found");
        drop(hints.begin(&agent, at(120), 0));
        assert_eq!(hints.begin(&agent, at(121), 0).from, None, "its caller hung up, or it failed");
    }

    #[test]
    fn a_clock_that_goes_back_makes_it_scan_everything() {
        let (hints, agent) = (ScanHints::new(), "a");
        hints.begin(&agent, at(0), 0).record(at(0), None);
        hints.begin(&agent, at(1), 0).record(at(-60), None);
        assert_eq!(hints.begin(&agent, at(2), 0).from, None);
    }

    #[test]
    fn no_hint_outlives_a_statement_whose_end_nobody_saw() {
        let (hints, agent) = (ScanHints::new(), "a");
        hints.begin(&agent, at(0), 0).record(at(0), None);
        let before = hints.begin(&agent, at(10), 0);
        let all = hints.begin(&agent, at(10), 1);
        assert_eq!(all.from, None);
        let beside = hints.begin(&agent, at(10), 1);
        assert_eq!(beside.from, None, "a hint from before is of no use to those beside it either");
        all.record(at(10), Some(at(-30)));
        before.record(at(11), None);
        assert_eq!(hints.begin(&agent, at(12), 1).from, Some(at(-30)));
    }
}
