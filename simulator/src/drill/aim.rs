//! Where a race is fired, steered by how the races before it ended: a fixed number of milliseconds would favour one side
//! on a slow machine.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Smallest correction, in microseconds.
const LEAST_STEP: i64 = 250;
/// Largest correction.
const MOST_STEP: i64 = 64_000;

/// An offset from the moment at which both sides would be even. Shared by all racers.
#[derive(Debug)]
pub struct Aim(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    offset: i64,
    step: i64,
    last: Option<bool>,
    within: (i64, i64),
}

impl Aim {
    /// Begins at an offset, and never leaves a range; microseconds.
    pub fn new(offset: i64, within: std::ops::RangeInclusive<i64>) -> Self {
        let within = (*within.start(), *within.end());
        Self(Mutex::new(Inner { offset, step: LEAST_STEP, last: None, within }))
    }

    /// The offset now, in microseconds.
    pub fn offset(&self) -> i64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).offset
    }

    /// The offset as a pause; below zero none.
    pub fn pause(&self) -> Duration {
        Duration::from_micros(self.offset().try_into().unwrap_or_default())
    }

    /// How long the other side pauses: the offset where it is below zero.
    pub fn head_start(&self) -> Duration {
        Duration::from_micros(self.offset().saturating_neg().try_into().unwrap_or_default())
    }

    /// When to fire, by the moment at which both sides would be even.
    pub fn moment(&self, even: Instant) -> Instant {
        let by = Duration::from_micros(self.offset().unsigned_abs());
        if self.offset() < 0 { even.checked_sub(by).unwrap_or(even) } else { even + by }
    }

    /// The later side won: fires earlier from now on, or later after a loss. Corrections double while the same side wins,
    /// and begin anew when the other does.
    pub fn learn(&self, was_late: bool) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_again = inner.last == Some(was_late);
        inner.step = if is_again { (inner.step * 2).min(MOST_STEP) } else { LEAST_STEP };
        inner.last = Some(was_late);
        let step = if was_late { -inner.step } else { inner.step };
        let (from, to) = inner.within;
        inner.offset = (inner.offset + step).clamp(from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_finds_the_middle_wherever_it_is_and_both_sides_win_there() {
        for middle in [-90_000, -3_100, 0, 45_000] {
            let aim = Aim::new(0, -500_000..=500_000);
            let mut late = 0;
            for _ in 0..100 {
                let was_late = aim.offset() > middle;
                late += i32::from(was_late);
                aim.learn(was_late);
            }
            assert!((25..=75).contains(&late), "{late} of 100 were late around {middle}");
        }
    }

    #[test]
    fn an_aim_stays_in_its_range() {
        let aim = Aim::new(0, 0..=1_000);
        for _ in 0..10 {
            aim.learn(true);
        }
        assert_eq!(aim.offset(), 0);
        for _ in 0..10 {
            aim.learn(false);
        }
        assert_eq!(aim.offset(), 1_000);
    }
}
