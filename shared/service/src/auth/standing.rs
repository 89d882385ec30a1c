//! Whether a caller whose token verified may call now: tenants can be suspended and limited, operators blocked.
//!
//! Both are remembered in the process and asked about again behind the calls, so that no statement of a call pays for
//! them. Only a caller of whom nothing is known, or nothing recent, waits for the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;
use tokio::time::{Instant, timeout};

use super::{Person, Principal};
use relaytrace_domain::{Error, Result, TenantId};
use relaytrace_store::{Store, TenantStanding};

/// Tenants and people remembered at the most.
const CAPACITY: usize = 20_000;

/// What was found out, and when.
#[derive(Debug)]
struct Known<T> {
    found: Mutex<Option<(T, DateTime<Utc>)>>,
    is_asking: AtomicBool,
    /// Of those who wait for the answer, one asks.
    turn: tokio::sync::Mutex<()>,
    /// When the database last did not answer in time.
    unanswered_at: Mutex<Option<Instant>>,
}

/// How long a call waits for an answer where an old one is known: it has to wait for its own statement, too.
const ASK_WITHIN: Duration = Duration::from_millis(200);
/// How long where none is known: it may be the first call of a process, which has to connect.
const FIRST_WITHIN: Duration = Duration::from_millis(1_500);
/// For so long after no answer came in time no call waits for another.
const UNANSWERED_FOR: Duration = Duration::from_secs(1);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            found: Mutex::new(None),
            is_asking: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
            unanswered_at: Mutex::new(None),
        }
    }
}

/// How long an answer is good.
#[derive(Clone, Copy, Debug)]
struct Freshness {
    /// Nobody asks again.
    fresh: TimeDelta,
    /// It still counts, and somebody asks again behind the call.
    usable: TimeDelta,
    /// It counts where the database does not answer, in whose absence no call can do anything.
    stale: TimeDelta,
}

impl<T: Copy + Send + 'static> Known<T> {
    fn lock(&self) -> MutexGuard<'_, Option<(T, DateTime<Utc>)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, found: T, now: DateTime<Utc>) {
        *self.lock() = Some((found, now));
    }

    /// The answer of `ask`, remembered.
    async fn get<F>(self: &Arc<Self>, now: DateTime<Utc>, good: Freshness, ask: impl FnOnce() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if let Some(found) = self.not_older_than(good.usable, now) {
            if self.not_older_than(good.fresh, now).is_none() && !self.is_asking.swap(true, Ordering::AcqRel) {
                tokio::spawn(self.clone().ask_behind(ask(), now));
            }
            return Ok(found);
        }
        let stale = self.not_older_than(good.stale, now);
        let within = if stale.is_some() { ASK_WITHIN } else { FIRST_WITHIN };
        match timeout(within, self.ask_in_turn(now, good, ask)).await {
            Ok(Ok(found)) => return Ok(found),
            // Whoever was in line before has found that out already.
            Ok(Err(_)) => {}
            Err(_) => *self.unanswered() = Some(Instant::now()),
        }
        stale.ok_or_else(|| Error::Unavailable(anyhow::anyhow!("a caller's standing was not found out in time")))
    }

    /// Asks, unless somebody has meanwhile, or has just had no answer.
    async fn ask_in_turn<F>(self: &Arc<Self>, now: DateTime<Utc>, good: Freshness, ask: impl FnOnce() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let _turn = self.turn.lock().await;
        if let Some(found) = self.not_older_than(good.usable, now) {
            return Ok(found);
        }
        if self.unanswered().is_some_and(|at| at.elapsed() < UNANSWERED_FOR) {
            return Err(Error::Unavailable(anyhow::anyhow!("the database has just not answered")));
        }
        let (known, answer) = (self.clone(), ask());
        // It goes on where its caller has no more time: the next one finds its answer.
        let asked = tokio::spawn(async move { answer.await.inspect(|found| known.learn(*found, now)) });
        let answered = asked.await.map_err(Error::internal)?;
        if answered.is_err() {
            *self.unanswered() = Some(Instant::now());
        }
        answered
    }

    fn unanswered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unanswered_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_older_than(&self, age: TimeDelta, now: DateTime<Utc>) -> Option<T> {
        self.lock().filter(|(_, at)| now - *at < age).map(|(found, _)| found)
    }

    async fn ask_behind(self: Arc<Self>, answer: impl Future<Output = Result<T>> + Send, now: DateTime<Utc>) {
        match answer.await {
            Ok(found) => self.learn(found, now),
            Err(error) => tracing::debug!(error = %error, "a caller's standing was not found out"),
        }
        self.is_asking.store(false, Ordering::Release);
    }
}

/// A tenant as this process knows it. `None` inside: there is none of this name.
#[derive(Debug, Default)]
struct KnownTenant {
    standing: Arc<Known<Option<TenantStanding>>>,
    submissions: Mutex<Bucket>,
}

/// Submissions that may still be taken, and since when that is known.
#[derive(Debug, Default)]
struct Bucket {
    left: f64,
    counted_at: Option<DateTime<Utc>>,
}

impl Bucket {
    /// Takes one, of as many as come in a minute.
    fn take(&mut self, per_minute: i32, now: DateTime<Utc>) -> bool {
        let most = f64::from(per_minute);
        let refilled = self
            .counted_at
            .map_or(most, |at| self.left + most * (now - at).max(TimeDelta::zero()).as_seconds_f64() / 60.0);
        self.left = refilled.min(most);
        self.counted_at = Some(now);
        let is_taken = self.left >= 1.0;
        if is_taken {
            self.left -= 1.0;
        }
        is_taken
    }
}

/// A person as this process knows them.
#[derive(Debug, Default)]
struct KnownPerson {
    is_blocked: Arc<Known<bool>>,
    noted: Mutex<Option<(DateTime<Utc>, Vec<String>)>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Standing {
    store: Store,
    /// Of the authority that people's functions have; `None`: this process has no function for people.
    people_store: Option<Store>,
    tenants: Cache<TenantId, Arc<KnownTenant>>,
    people: Cache<(TenantId, String), Arc<KnownPerson>>,
}

impl Standing {
    /// A suspension and a limit are in force within 5 s.
    const TENANTS: Freshness =
        Freshness { fresh: TimeDelta::seconds(2), usable: TimeDelta::seconds(4), stale: TimeDelta::seconds(60) };
    /// A block is in force within 60 s.
    const PEOPLE: Freshness =
        Freshness { fresh: TimeDelta::seconds(20), usable: TimeDelta::seconds(40), stale: TimeDelta::seconds(55) };
    /// How often an operator is noted.
    const NOTED_AGAIN_AFTER: TimeDelta = TimeDelta::minutes(1);

    pub(super) fn new(store: Store, people_store: Option<Store>) -> Self {
        Self { store, people_store, tenants: Cache::new(CAPACITY), people: Cache::new(CAPACITY) }
    }

    /// The caller as they may act now.
    pub(super) async fn of(&self, principal: Arc<Principal>, now: DateTime<Utc>) -> Result<Arc<Principal>> {
        let tenant = self.tenant(principal.tenant(), now).await?;
        let is_active = tenant.is_some_and(|standing| standing.is_active);
        match &*principal {
            Principal::Person(person)
                if (is_active || tenant.is_some() && person.is_owner) && self.is_blocked(person, now).await? =>
            {
                Err(Error::Forbidden("an administrator has blocked you"))
            }
            _ if is_active => Ok(principal),
            // Owners see to tenants, also to their own.
            Principal::Person(person) if person.is_owner && tenant.is_some() => {
                Ok(Arc::new(Principal::Person(Person { is_operator: false, is_admin: false, ..person.clone() })))
            }
            _ if tenant.is_none() => Err(Error::Unauthenticated("there is no such tenant")),
            _ => Err(Error::Unauthenticated("the tenant is suspended")),
        }
    }

    async fn tenant(&self, tenant: &TenantId, now: DateTime<Utc>) -> Result<Option<TenantStanding>> {
        let known = self.known_tenant(tenant);
        let ask = || {
            let (store, tenant) = (self.store.clone(), tenant.clone());
            async move { store.tenant_standing(&tenant).await }
        };
        known.standing.get(now, Self::TENANTS, ask).await
    }

    fn known_tenant(&self, tenant: &TenantId) -> Arc<KnownTenant> {
        let known = self.tenants.get_or_insert_with(tenant, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let Ok(known) = known;
        known
    }

    /// Counts a submission of one of the tenant's agents.
    pub(super) fn count_submission(&self, tenant: &TenantId, now: DateTime<Utc>) -> Result<()> {
        let known = self.known_tenant(tenant);
        let standing = known.standing.lock().and_then(|(standing, _)| standing);
        let Some(per_minute) = standing.and_then(|standing| standing.submissions_per_minute) else { return Ok(()) };
        let mut bucket = known.submissions.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.take(per_minute, now) {
            return Ok(());
        }
        Err(Error::RateLimited { cap: "tenant's submissions_per_minute".into() })
    }

    /// Whether the person is blocked. Notes them, behind the call.
    async fn is_blocked(&self, person: &Person, now: DateTime<Utc>) -> Result<bool> {
        let Some(store) = &self.people_store else { return Ok(false) };
        let key = (person.tenant.clone(), person.id.clone());
        let known = self.people.get_or_insert_with(&key, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let Ok(known) = known;
        let ask = || {
            let (store, (tenant, id)) = (store.clone(), key.clone());
            async move { store.is_blocked(&tenant, &id).await }
        };
        let is_blocked = known.is_blocked.get(now, Self::PEOPLE, ask).await?;
        if person.is_operator && !is_blocked && known.is_due(&person.groups, now) {
            tokio::spawn(note(store.clone(), person.clone(), known, now));
        }
        Ok(is_blocked)
    }
}

impl KnownPerson {
    /// Whether the person is to be noted again: after a while, or in other groups. The caller that hears so does it.
    fn is_due(&self, groups: &[String], now: DateTime<Utc>) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = noted.as_ref().is_some_and(|(at, of)| now - *at < Standing::NOTED_AGAIN_AFTER && of == groups);
        if !is_known {
            *noted = Some((now, groups.to_vec()));
        }
        !is_known
    }
}

async fn note(store: Store, person: Person, known: Arc<KnownPerson>, now: DateTime<Utc>) {
    match store.note_operator(&person.seen()).await {
        Ok(is_blocked) => known.is_blocked.learn(is_blocked, now),
        // The next call tries again.
        Err(error) => {
            *known.noted.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::warn!(error = %error, "an operator was not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_minute_has_room_for_its_submissions_and_no_more() {
        let (mut bucket, start) = (Bucket::default(), DateTime::UNIX_EPOCH);
        let mut take = |seconds| bucket.take(3, start + TimeDelta::seconds(seconds));
        assert_eq!([take(0), take(0), take(0), take(0)], [true, true, true, false]);
        assert_eq!([take(20), take(20)], [true, false], "one in twenty seconds");
        assert_eq!([take(500), take(500), take(500), take(500)], [true, true, true, false]);
        assert!(!take(100), "a clock that goes back gives nothing");
    }

    const GOOD: Freshness =
        Freshness { fresh: TimeDelta::seconds(2), usable: TimeDelta::seconds(4), stale: TimeDelta::seconds(60) };

    #[tokio::test]
    async fn an_answer_is_asked_for_again_behind_the_call_and_awaited_when_it_is_old() {
        let (known, start) = (Arc::new(Known::<i32>::default()), DateTime::UNIX_EPOCH);
        let at = |seconds, answer: Result<i32>| {
            let known = known.clone();
            async move { known.get(start + TimeDelta::seconds(seconds), GOOD, || async move { answer }).await }
        };
        assert_eq!(at(0, Ok(1)).await.unwrap(), 1);
        assert_eq!(at(1, Ok(2)).await.unwrap(), 1, "fresh");
        assert_eq!(at(3, Ok(3)).await.unwrap(), 1, "usable, and asked for");
        while known.is_asking.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
        assert_eq!(at(4, Ok(4)).await.unwrap(), 3);
        assert_eq!(at(9, Ok(5)).await.unwrap(), 5, "old: awaited");
        let away = || Error::Unavailable(anyhow::anyhow!("away"));
        assert_eq!(at(60, Err(away())).await.unwrap(), 5, "the database is away");
        assert!(matches!(at(70, Err(away())).await, Err(Error::Unavailable(_))), "for too long");
    }

    #[tokio::test]
    async fn nobody_waits_long_for_a_database_that_says_nothing_nor_one_after_the_other() {
        let (known, start) = (Arc::new(Known::<i32>::default()), DateTime::UNIX_EPOCH);
        let asked = Arc::new(AtomicUsize::new(0));
        known.learn(1, start);
        let begun = Instant::now();
        let calls = (0..20).map(|_| {
            let (known, asked) = (known.clone(), asked.clone());
            let never = move || {
                asked.fetch_add(1, Ordering::AcqRel);
                std::future::pending()
            };
            async move { known.get(start + TimeDelta::seconds(10), GOOD, never).await }
        });
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.unwrap(), 1, "what was known");
        }
        assert!(begun.elapsed() < 10 * ASK_WITHIN, "together, not one after the other");
        assert_eq!(asked.load(Ordering::Acquire), 1);
    }
}
