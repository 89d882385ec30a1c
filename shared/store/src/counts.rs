//! Counts of pending requests, up to a bound; callers share one count.

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use relaytrace_domain::TenantId;

/// Pending requests of a priority are counted up to here (contract 1.1, "Changes to 1.0": `counts.capped`).
pub(crate) const COUNTED: i64 = 10_000;

/// From so many pending requests on, one count serves the whole process for [`COUNT_LASTS`]; fewer cost next to nothing.
const COUNT_SHARED_FROM: i64 = 1_000;

/// How old a shared count may be.
const COUNT_LASTS: Duration = Duration::from_secs(1);

/// Tenants whose counts are kept.
const CAPACITY: usize = 1_000;

/// Counts of all pending requests, independent of the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of P1, P2, P3: each a lower bound where it has reached 10,000.
    pub pending: [i64; 3],
}

impl Counts {
    /// Whether there may be more.
    #[must_use]
    pub fn is_capped(&self) -> bool {
        self.pending.iter().any(|count| *count >= COUNTED)
    }
}

/// The latest count of much that is pending in a tenant, for all callers of this process.
#[derive(Debug)]
pub(crate) struct SharedCounts(Cache<TenantId, (Instant, Counts)>);

impl Default for SharedCounts {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl SharedCounts {
    /// The count to use. `None`: the caller counts, and the others go on with what is known meanwhile.
    pub(crate) fn known(&self, tenant: &TenantId) -> Option<Counts> {
        let (at, counts) = self.0.get(tenant)?;
        if counts.pending.iter().sum::<i64>() < COUNT_SHARED_FROM {
            return None;
        }
        if at.elapsed() < COUNT_LASTS {
            return Some(counts);
        }
        self.0.insert(tenant.clone(), (Instant::now(), counts));
        None
    }

    pub(crate) fn learn(&self, tenant: &TenantId, counts: Counts) {
        self.0.insert(tenant.clone(), (Instant::now(), counts));
    }
}
