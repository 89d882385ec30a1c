//! How this process is, for `/readyz` and the log: when it last swept, whether its writes get through, and whether its
//! database is the one that it was.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// Signs of life; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Mutex<Signs>>);

#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    swept_at: Option<DateTime<Utc>>,
    unwritable_at: Option<DateTime<Utc>>,
    history: History,
}

/// Whether the database holds the entries that the stream was told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum History {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It has what the stream tells.
    Whole,
    /// It is an older copy, and no restore was declared.
    Behind,
}

impl Vitals {
    /// So long after a write that no retry mends, this process takes none: it is asked again then.
    const UNWRITABLE_FOR: TimeDelta = TimeDelta::seconds(10);
    /// A sweep is late after this.
    const LATE_AFTER: TimeDelta = TimeDelta::minutes(1);

    fn change(&self, change: impl FnOnce(&mut Signs)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn signs(&self) -> Signs {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sweep of this process did all that it had to.
    pub fn has_swept(&self, now: DateTime<Utc>) {
        self.change(|signs| signs.swept_at = Some(now));
    }

    /// How long ago that was; `None`: this process does not sweep.
    pub(crate) fn last_swept(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        Some(now - self.signs().swept_at?)
    }

    /// The same. A late one is an error: deadlines pass unnoticed.
    pub(crate) fn sweep_age(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let age = self.last_swept(now)?;
        if age > Self::LATE_AFTER {
            tracing::error!(sweep.age_seconds = age.num_seconds(), "the sweep is late");
        }
        Some(age)
    }

    /// The database refused for a reason that lasts. What is not about its disk is found by asking it.
    pub(crate) fn was_refused(&self, refusal: &str, now: DateTime<Utc>) {
        if refusal == DISK_FULL {
            self.change(|signs| signs.unwritable_at = Some(now));
        }
    }

    /// How the database stands beside the stream, as it was last seen.
    pub(crate) fn history(&self) -> History {
        self.signs().history
    }

    /// It was looked at. Whether it is news.
    pub(crate) fn has_history(&self, history: History) -> bool {
        let before = self.history();
        self.change(|signs| signs.history = history);
        before != history
    }

    /// Whether a write may get through.
    pub(crate) fn can_write(&self, now: DateTime<Utc>) -> bool {
        self.signs().unwritable_at.is_none_or(|at| now - at >= Self::UNWRITABLE_FOR)
    }
}

const DISK_FULL: &str = "53100";

/// The SQLSTATE of an error that no retry mends (PostgreSQL, appendix A): a full disk, credentials, a database that is
/// not there, a missing right, a disk that fails. Someone must act on it.
pub(crate) fn lasting_refusal(error: &anyhow::Error) -> Option<String> {
    let database = error.chain().find_map(|cause| match cause.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(database)) => Some(database),
        _ => None,
    })?;
    let code = database.code()?.into_owned();
    let lasts = matches!(code.as_str(), DISK_FULL | "42501") || ["28", "3D", "58"].contains(&code.get(..2)?);
    lasts.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_full_disk_no_write_is_taken_for_a_while() {
        let (vitals, now) = (Vitals::default(), DateTime::UNIX_EPOCH);
        vitals.was_refused("28P01", now);
        assert!(vitals.can_write(now));
        vitals.was_refused(DISK_FULL, now);
        assert!(!vitals.can_write(now) && !vitals.can_write(now + TimeDelta::seconds(9)));
        assert!(vitals.can_write(now + TimeDelta::seconds(10)));
    }

    #[test]
    fn a_sweeps_age_counts_from_the_last_that_ended() {
        let (vitals, now) = (Vitals::default(), DateTime::UNIX_EPOCH);
        assert_eq!(vitals.sweep_age(now), None);
        vitals.has_swept(now);
        assert_eq!(vitals.sweep_age(now + TimeDelta::seconds(90)), Some(TimeDelta::seconds(90)));
    }
}
