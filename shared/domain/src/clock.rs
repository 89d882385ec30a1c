//! The time, injected: nothing else in the workspace asks the operating system for it (see `clippy.toml`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};

/// The system's clock, or a test's.
///
/// The database's clock decides deadlines, leases and the 7 days; this one decides tokens and signatures. A moved
/// clock is handed to the statements too ([`Clock::for_database`]), so that a test moves both at once.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Microseconds since the epoch of a moved clock.
    moved_to: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The operating system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still at `at` until [`Clock::set`].
    #[must_use]
    pub fn fixed(at: DateTime<Utc>) -> Self {
        Self { moved_to: Some(Arc::new(AtomicI64::new(at.timestamp_micros()))) }
    }

    /// Moves a fixed clock; all its clones move with it. Does nothing to the system's clock.
    pub fn set(&self, at: DateTime<Utc>) {
        if let Some(moved_to) = &self.moved_to {
            moved_to.store(at.timestamp_micros(), Ordering::SeqCst);
        }
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.for_database().unwrap_or_else(|| self.wall())
    }

    /// The operating system's time, also in tests: for connections, whose servers live in it.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn wall(&self) -> DateTime<Utc> {
        Utc::now()
    }

    /// The `now` parameter of a statement: `None` lets the database's clock decide.
    #[must_use]
    pub fn for_database(&self) -> Option<DateTime<Utc>> {
        let moved_to = self.moved_to.as_ref()?;
        DateTime::from_timestamp_micros(moved_to.load(Ordering::SeqCst))
    }
}
