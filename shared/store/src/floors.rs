//! From where one looks for what is due: deliveries of an agent, events that were left over.
//!
//! Every row leaves entries in the index of what is due, which stay until vacuum may remove them; a transaction that is
//! left open prevents that. An empty poll that looks at all of them gets slower with each handoff. So a process
//! remembers a floor: no row that is there is due before it. Each look moves it up.
//!
//! A row is due at the time of the statement that makes it so, or later: below the floor it can only come where that
//! statement committed more than [`MARGIN`] after it took its time, or where the database's clock went back. Such a one
//! is found by the look everywhere that is made every [`LOOK_EVERYWHERE_AFTER`]. A floor is only about speed: what is
//! not remembered costs a look everywhere.

use std::hash::Hash;

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;

/// Statements that commit within it after they took their time are never overlooked: more than twice the longest.
const MARGIN: TimeDelta = TimeDelta::seconds(5);
/// What came below the floor all the same is overlooked for so long at the most.
const LOOK_EVERYWHERE_AFTER: TimeDelta = TimeDelta::seconds(60);
/// How many floors are remembered.
const CAPACITY: usize = 10_000;

/// The floors of this process, by whose rows they are about.
#[derive(Debug)]
pub(super) struct Floors<K>(Cache<K, Floor>);

#[derive(Clone, Copy, Debug)]
struct Floor {
    /// No row that is there is due before.
    from: DateTime<Utc>,
    /// When somebody last looked, or set out to look, everywhere.
    looked_everywhere_at: DateTime<Utc>,
}

/// One look, from its start to what it showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Only rows that are due from here on; `None`: everywhere.
    pub(super) from: Option<DateTime<Utc>>,
    looked_everywhere_at: DateTime<Utc>,
}

impl<K: Clone + Eq + Hash> Floors<K> {
    pub(super) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// A look that starts now.
    pub(super) fn look(&self, key: &K, now: DateTime<Utc>) -> Look {
        let known = self.0.get(key);
        let is_fresh =
            |floor: &Floor| (TimeDelta::zero()..LOOK_EVERYWHERE_AFTER).contains(&(now - floor.looked_everywhere_at));
        match known {
            Some(floor) if is_fresh(&floor) => {
                Look { from: Some(floor.from), looked_everywhere_at: floor.looked_everywhere_at }
            }
            known => {
                // One looks everywhere; those beside it need not.
                if let Some(floor) = known {
                    self.0.insert(key.clone(), Floor { looked_everywhere_at: now, ..floor });
                }
                Look { from: None, looked_everywhere_at: now }
            }
        }
    }

    /// What the look showed at `at`, the database's time: the first row that is due, held by somebody or not.
    pub(super) fn learn(&self, key: &K, look: Look, at: DateTime<Utc>, first: Option<DateTime<Utc>>) {
        let known = self.0.get(key);
        // Somebody has looked everywhere since, and knows better.
        if look.from.is_some() && known.is_none_or(|floor| floor.looked_everywhere_at != look.looked_everywhere_at) {
            return;
        }
        if look.from.is_some_and(|from| at < from) {
            self.0.remove(key);
            return;
        }
        let from = first.map_or(at - MARGIN, |first| first.min(at - MARGIN));
        // Never down again but by a look everywhere: what this look began with was true.
        let from = look.from.map_or(from, |before| before.max(from));
        self.0.insert(key.clone(), Floor { from, looked_everywhere_at: look.looked_everywhere_at });
    }

    /// The look failed: what it was to find is still to be found.
    pub(super) fn forget(&self, key: &K, look: Look) {
        if look.from.is_none() {
            self.0.remove(key);
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
    fn the_floor_follows_the_time_and_stops_below_the_first_delivery() {
        let (floors, agent) = (Floors::new(), "a");
        let look = floors.look(&agent, at(0));
        assert_eq!(look.from, None);
        floors.learn(&agent, look, at(0), None);
        let look = floors.look(&agent, at(10));
        assert_eq!(look.from, Some(at(-5)));
        floors.learn(&agent, look, at(10), Some(at(2)));
        assert_eq!(floors.look(&agent, at(11)).from, Some(at(2)), "a delivery that somebody holds is not passed");
    }

    #[test]
    fn one_look_in_a_minute_is_everywhere_and_a_failed_one_is_made_up_for() {
        let (floors, agent) = (Floors::new(), "a");
        floors.learn(&agent, floors.look(&agent, at(0)), at(0), None);
        let beside = floors.look(&agent, at(59));
        let everywhere = floors.look(&agent, at(60));
        assert_eq!((beside.from.is_some(), everywhere.from), (true, None));
        assert!(floors.look(&agent, at(60)).from.is_some(), "one is enough");
        floors.learn(&agent, everywhere, at(60), Some(at(-100)));
        floors.learn(&agent, beside, at(61), None);
        assert_eq!(floors.look(&agent, at(62)).from, Some(at(-100)), "an older look does not hide what was found");
        let everywhere = floors.look(&agent, at(120));
        floors.forget(&agent, everywhere);
        assert_eq!(floors.look(&agent, at(121)).from, None);
    }

    #[test]
    fn a_clock_that_goes_back_makes_it_look_everywhere() {
        let (floors, agent) = (Floors::new(), "a");
        floors.learn(&agent, floors.look(&agent, at(0)), at(0), None);
        let look = floors.look(&agent, at(1));
        floors.learn(&agent, look, at(-60), None);
        assert_eq!(floors.look(&agent, at(2)).from, None);
    }
}
