//! Connections: pooled, handed back without a round trip, and dropped where their state is not known.
//!
//! A statement is bounded three times: a connection must be free within [`WAIT`], the server ends the statement after
//! [`STATEMENT_TIMEOUT`] (a setting of the role), and the caller gives up after [`STATEMENT_DEADLINE`], which is later.
//! So a statement that a caller gave up has ended at the server, or is in its commit, or never arrived. A statement
//! belongs to its connection, not to its caller: where a caller stops waiting, the connection stays with a task that
//! reads the answer to its end. At most twice the pool's size of sessions are open, however callers behave.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use chrono::{DateTime, TimeDelta, Utc};
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult};
use rand::RngExt as _;
use relaytrace_domain::failure::Failure;
use relaytrace_domain::{Clock, Error, Refusal, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Longest wait for a free connection.
pub(super) const WAIT: Duration = Duration::from_millis(600);
/// Longest wait for a connection in all: a free place in the pool, pings, a new connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Longest wait of a caller for its statement's answer.
pub(super) const STATEMENT_DEADLINE: Duration = Duration::from_secs(2);
/// After this the server ends a statement (`statement_timeout` of the role), in milliseconds.
pub(super) const STATEMENT_TIMEOUT: &str = "1500";
/// After this the server ends a statement's wait for one lock (`lock_timeout` of the role), in milliseconds: longer than
/// the server waits until it looks for a deadlock (1 s).
pub(super) const LOCK_TIMEOUT: &str = "1200";
/// How long an answer that no caller waits for is still read before its connection is dropped.
const ABANDON_AFTER: Duration = Duration::from_secs(10);
/// A connection that was idle for longer, by the wall clock, is pinged before it is used: in a frozen process the
/// monotonic clock may have stood still while the server hung up.
const PING_AFTER: TimeDelta = TimeDelta::seconds(1);
/// Longest wait for a ping's answer.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs one statement on a connection of the pool: bounded in time, and again where the server refused it without having
/// done anything (a deadlock, a connection that is outdated).
macro_rules! run {
    ($store:expr, $connection:ident => $statement:expr) => {
        $crate::pool::run!(on $store.connections, $connection => $statement)
    };
    (on $connections:expr, $connection:ident => $statement:expr) => {{
        let mut tries = $crate::pool::Tries::new();
        loop {
            let mut held = $connections.hold().await?;
            let outcome = {
                let $connection = held.connection();
                tokio::time::timeout($crate::pool::STATEMENT_DEADLINE, $statement).await
            };
            match held.settle(outcome, &mut tries).await {
                std::ops::ControlFlow::Break(result) => break result,
                std::ops::ControlFlow::Continue(()) => {}
            }
        }
    }};
}
pub(super) use run;

/// How often a statement may still be sent again.
pub(super) struct Tries {
    after_conflict: u32,
    over_a_new_connection: bool,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self { after_conflict: Failure::StatementConflict.tries() - 1, over_a_new_connection: true }
    }
}

/// The pool. It connects when it is first used, so that starting does not need the database.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pool: Pool<Connector>,
    /// `None`: the whole pool may be used.
    share: Option<Arc<Semaphore>>,
    /// Places for connections beside the pool, whose answers no caller waits for.
    abandoned: Arc<Semaphore>,
    /// See [`Self::unseen_ends`].
    unseen_ends: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Connector {
    options: PgConnectOptions,
    clock: Clock,
}

#[derive(Debug)]
struct Pooled {
    connection: PgConnection,
    used_at: DateTime<Utc>,
}

impl Manager for Connector {
    type Type = Pooled;
    type Error = sqlx::Error;

    async fn create(&self) -> sqlx::Result<Pooled> {
        Ok(Pooled { connection: self.options.connect().await?, used_at: self.clock.wall() })
    }

    async fn recycle(&self, pooled: &mut Pooled, _: &Metrics) -> RecycleResult<sqlx::Error> {
        let now = self.clock.wall();
        if now - pooled.used_at > PING_AFTER {
            let pong = timeout(PING_TIMEOUT, pooled.connection.ping()).await;
            pong.map_err(|_| RecycleError::message("no answer to a ping"))??;
        }
        pooled.used_at = now;
        Ok(())
    }
}

/// A pool at one moment. Connections whose answers nobody waits for are beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Connections that are free.
    pub idle: usize,
    /// Connections in use.
    pub busy: usize,
    /// Statements that wait for one.
    pub wanted: usize,
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions, max_connections: usize, clock: Clock) -> Self {
        let pool = Pool::builder(Connector { options, clock })
            .max_size(max_connections)
            .runtime(deadpool::Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            // The backend that worked last has its caches at hand (docs/reports/performance.md).
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("a pool with a runtime has its time-outs");
        let abandoned = Arc::new(Semaphore::new(max_connections));
        Self { pool, share: None, abandoned, unseen_ends: Arc::default() }
    }

    /// The same pool, of which at most half is used: for statements that wait for one table while the others have to be
    /// served.
    pub(super) fn half(&self) -> Self {
        let half = (self.pool.status().max_size / 2).max(1);
        Self { share: Some(Arc::new(Semaphore::new(half))), ..self.clone() }
    }

    /// A connection that is free within [`WAIT`]. A server that refuses connections is away.
    pub(super) async fn hold(&self) -> Result<Held> {
        let place = match self.share.clone() {
            Some(share) => Some(
                timeout(WAIT, share.acquire_owned())
                    .await
                    .map_err(|_| Error::Unavailable(anyhow!("no connection of the half for polls within {WAIT:?}")))?,
            ),
            None => None,
        };
        let place = place.transpose().map_err(Error::internal)?;
        let acquired = timeout(CONNECT_DEADLINE, self.pool.get()).await;
        let acquired =
            acquired.map_err(|_| Error::Unavailable(anyhow!("no connection within {CONNECT_DEADLINE:?}")))?;
        // Whatever the server says of a connection that it refuses, it is away for us.
        let pooled = acquired.map_err(|error| match error {
            PoolError::Backend(error) => Error::Unavailable(error.into()),
            error => Error::Unavailable(error.into()),
        })?;
        Ok(Held { pooled: Some(pooled), state: Statement::Running, connections: self.clone(), place })
    }

    /// Waits until a connection is free that answers. The next [`Self::hold`] finds it.
    pub(super) async fn ready(&self) -> Result<()> {
        let mut held = self.hold().await?;
        held.state = Statement::Answered;
        Ok(())
    }

    /// Drops every idle connection: the next statements make new ones.
    pub(super) fn renew(&self) {
        self.pool.retain(|_, _| false);
    }

    /// How many statements have been given up, or have ended after they were: what this process knew of the tables
    /// before may be wrong.
    pub(super) fn unseen_ends(&self) -> u64 {
        self.unseen_ends.load(Ordering::Acquire)
    }

    /// Its connections, and who waits for one.
    pub(super) fn state(&self) -> PoolState {
        let status = self.pool.status();
        PoolState { idle: status.available, busy: status.size.saturating_sub(status.available), wanted: status.waiting }
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// Reads a statement's answer to its end, for nobody. The connection keeps its place in the pool for as long as a
    /// statement may take, and longer where too many are beside the pool already.
    async fn finish(self, mut pooled: Object<Connector>, within: Duration, place: Option<OwnedSemaphorePermit>) {
        self.unseen_ends.fetch_add(1, Ordering::AcqRel);
        let ended = {
            let answer = read_to_the_end(&mut pooled.connection);
            tokio::pin!(answer);
            if let Ok(is_reusable) = timeout(within, &mut answer).await {
                Ok(is_reusable)
            } else {
                tokio::select! {
                    is_reusable = &mut answer => Ok(is_reusable),
                    beside = self.abandoned.clone().acquire_owned() => Err(beside),
                }
            }
        };
        match ended {
            Ok(true) => drop(pooled),
            Ok(false) => drop(Object::take(pooled)),
            Err(_beside) => {
                let mut pooled = Object::take(pooled);
                drop(place);
                drop(timeout(ABANDON_AFTER, read_to_the_end(&mut pooled.connection)).await);
            }
        }
        self.unseen_ends.fetch_add(1, Ordering::AcqRel);
    }
}

/// Until the server is ready for the next statement. `false`: the connection broke.
async fn read_to_the_end(connection: &mut PgConnection) -> bool {
    loop {
        match connection.ping().await {
            Ok(()) => return true,
            // The statement's own error, which nobody waits for.
            Err(sqlx::Error::Database(error)) if Refusal::of(&*error) != Some(Refusal::Lost) => {}
            Err(_) => return false,
        }
    }
}

/// How far the statement of a [`Held`] connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statement {
    /// Its answer was not read to the end.
    Running,
    /// Its caller has waited as long as it may.
    Late,
    /// It is answered, and the connection is as good as before.
    Answered,
    /// The connection cannot be used again.
    Broken,
}

/// A connection while a statement runs on it. Where its caller stops waiting, because of the deadline or because it hung
/// up, the statement runs to its end in a task of its own.
pub(super) struct Held {
    pooled: Option<Object<Connector>>,
    state: Statement,
    connections: Connections,
    place: Option<OwnedSemaphorePermit>,
}

impl Held {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.pooled.as_mut().expect("taken only when dropped").connection
    }

    /// The statement's result, or, perhaps after a pause, another try.
    pub(super) async fn settle<T>(
        mut self,
        outcome: Result<sqlx::Result<T>, Elapsed>,
        tries: &mut Tries,
    ) -> ControlFlow<Result<T>> {
        let Ok(outcome) = outcome else {
            self.state = Statement::Late;
            let slow = anyhow!("a statement took longer than {STATEMENT_DEADLINE:?}");
            return ControlFlow::Break(Err(Error::Unavailable(slow)));
        };
        let refusal = match &outcome {
            Ok(_) | Err(sqlx::Error::RowNotFound) => None,
            Err(sqlx::Error::Database(error)) => Refusal::of(&**error),
            Err(_) => Some(Refusal::Lost),
        };
        self.state = match refusal {
            None | Some(Refusal::Conflict | Refusal::Busy) => Statement::Answered,
            Some(Refusal::Outdated | Refusal::Lost) => Statement::Broken,
        };
        let connections = self.connections.clone();
        drop(self);
        match refusal {
            Some(Refusal::Conflict) if tries.after_conflict > 0 => {
                tries.after_conflict -= 1;
                let longest = Failure::StatementConflict.pause();
                let pause = rand::rng().random_range(Duration::ZERO..=longest);
                tokio::time::sleep(pause).await;
                ControlFlow::Continue(())
            }
            Some(Refusal::Outdated) => {
                // Those beside it are of the same age.
                connections.renew();
                if std::mem::take(&mut tries.over_a_new_connection) {
                    return ControlFlow::Continue(());
                }
                ControlFlow::Break(outcome.map_err(Error::from))
            }
            _ => ControlFlow::Break(outcome.map_err(Error::from)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(pooled) = self.pooled.take() else { return };
        let within = match self.state {
            Statement::Answered => return,
            Statement::Broken => return drop(Object::take(pooled)),
            Statement::Running => STATEMENT_DEADLINE,
            Statement::Late => Duration::ZERO,
        };
        match Handle::try_current() {
            Ok(runtime) => {
                drop(runtime.spawn(self.connections.clone().finish(pooled, within, self.place.take())));
            }
            Err(_) => drop(Object::take(pooled)),
        }
    }
}
