//! What rules did, counted behind the answers: submissions that they applied to, failed at, or were the shadow of. No
//! answer waits for it where a process may keep running, and one statement takes what has come together. A crash may lose
//! some.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use relaytrace_domain::{Result, RuleName, TenantId};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::database::Database;
use crate::judging::Ruling;
use crate::writers::Store;

/// From one statement to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for what is counted and not written.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// What a rule of a version did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// Submissions that it was applied to.
    pub applied: i64,
    /// Submissions that it could not judge.
    pub failures: i64,
    /// Submissions whose entry names it as their rule of the shadow.
    pub would: i64,
}

type Counted = HashMap<(TenantId, i32, RuleName), RuleCount>;

/// What is counted and not written yet; of all stores of a process.
#[derive(Debug, Default)]
pub struct RuleCounts {
    waiting: Mutex<Waiting>,
    /// Writes what waits at once.
    hurry: Notify,
    /// Number of the statement that was sent last.
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    counted: Counted,
    is_being_written: bool,
    begun: u64,
}

impl RuleCounts {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds them. Whether somebody is to begin writing.
    fn add(&self, counted: Counted) -> bool {
        let mut waiting = self.lock();
        for (rule, more) in counted {
            let count = waiting.counted.entry(rule).or_default();
            count.applied += more.applied;
            count.failures += more.failures;
            count.would += more.would;
        }
        !std::mem::replace(&mut waiting.is_being_written, true)
    }

    /// What waits, and the number of its statement; `None`: nothing, and nobody writes from now on.
    fn take(&self) -> Option<(u64, Counted)> {
        let mut waiting = self.lock();
        if waiting.counted.is_empty() {
            waiting.is_being_written = false;
            return None;
        }
        waiting.begun += 1;
        Some((waiting.begun, std::mem::take(&mut waiting.counted)))
    }

    async fn write(self: Arc<Self>, database: Database) {
        while let Some((number, counted)) = self.take() {
            database.write_rule_counts(counted).await;
            self.written.send_replace(number);
            drop(timeout(PAUSE, self.hurry.notified()).await);
        }
    }

    /// Waits until what was counted before is written, a second at the most.
    pub(crate) async fn settle(&self) {
        let wanted = {
            let waiting = self.lock();
            if !waiting.is_being_written {
                return;
            }
            waiting.begun + u64::from(!waiting.counted.is_empty())
        };
        self.hurry.notify_one();
        drop(timeout(SETTLES_WITHIN, self.written.subscribe().wait_for(|written| *written >= wanted)).await);
    }
}

impl Store {
    /// Counts what rules say of a submission that was stored.
    pub(crate) async fn count_rules(&self, ruling: Option<&Ruling>) {
        let Some(Ruling { tenant, version, judgement, .. }) = ruling else { return };
        let mut counted = Counted::new();
        let mut of = |rule: &RuleName, add: fn(&mut RuleCount)| {
            add(counted.entry((tenant.clone(), *version, rule.clone())).or_default());
        };
        judgement.applied.iter().for_each(|it| of(&it.rule, |count| count.applied += 1));
        judgement.shadow.iter().for_each(|it| of(&it.rule, |count| count.would += 1));
        judgement.failed.iter().for_each(|rule| of(rule, |count| count.failures += 1));
        if counted.is_empty() {
            return;
        }
        if !self.may_keep_running() {
            return self.write_rule_counts(counted).await;
        }
        if self.rule_counts.add(counted) {
            tokio::spawn(self.rule_counts.clone().write((**self).clone()));
        }
    }
}

impl Database {
    /// What rules of a version did, by name, with all that this process has counted.
    pub async fn rule_counts(&self, tenant: &TenantId, version: i32) -> Result<BTreeMap<String, RuleCount>> {
        self.rule_counts.settle().await;
        let counts = self.all(|| sqlx::query_file!("sql/rule_counts.sql", tenant.as_str(), version)).await?;
        let of = counts
            .into_iter()
            .map(|row| (row.rule_name, RuleCount { applied: row.applied, failures: row.failures, would: row.would }));
        Ok(of.collect())
    }

    /// Waits until what this process has counted is written, a second at the most.
    pub async fn settle_rule_counts(&self) {
        self.rule_counts.settle().await;
    }

    /// The submissions stand whether or not they are counted.
    async fn write_rule_counts(&self, counted: Counted) {
        let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((tenant, version, rule), count) in counted {
            columns.0.push(tenant.to_string());
            columns.1.push(version);
            columns.2.push(rule.to_string());
            columns.3.push(count.applied);
            columns.4.push(count.failures);
            columns.5.push(count.would);
        }
        let (tenants, versions, rules, applied, failures, would) = &columns;
        let counting = || sqlx::query_file!("sql/count_rules.sql", tenants, versions, rules, applied, failures, would);
        if let Err(error) = self.execute(counting).await {
            tracing::warn!(error = ?error, "what rules did is not counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(rule: &str) -> Counted {
        let name = ("default".parse().unwrap(), 1, rule.parse().unwrap());
        [(name, RuleCount { applied: 1, ..RuleCount::default() })].into()
    }

    #[test]
    fn one_writes_at_a_time_and_takes_all_that_has_come() {
        let counts = RuleCounts::default();
        assert!(counts.add(once("a")), "the first begins");
        assert!(!counts.add(once("a")) && !counts.add(once("b")), "the others find it at work");
        let (number, taken) = counts.take().unwrap();
        let applied: i64 = taken.values().map(|count| count.applied).sum();
        assert_eq!((number, taken.len(), applied), (1, 2, 3));
        assert!(!counts.add(once("a")));
        assert_eq!(counts.take().unwrap().0, 2);
        assert!(counts.take().is_none());
        assert!(counts.add(once("a")), "whoever comes after the last begins anew");
    }
}
