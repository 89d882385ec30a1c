//! Connections: pooled, handed back without a round trip, and dropped where their state is not known.

use std::ops::ControlFlow;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult};
use rand::RngExt as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use relaytrace_domain::Clock;
use relaytrace_domain::Failure;
use relaytrace_domain::{Error, Result, is_conflict};

/// Longest time for a statement with all its tries, the wait for a connection included. A connection whose statement
/// takes longer is dropped.
pub(super) const LONGEST: Duration = Duration::from_secs(2);
/// A connection that was idle for longer, by the wall clock, is pinged before it is used: in a frozen process the
/// monotonic clock may have stood still while the server hung up.
const PING_AFTER: TimeDelta = TimeDelta::seconds(1);
/// Longest wait for a ping's answer.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs one statement on a connection of the pool: bounded in time, and again when it lost against another by a
/// deadlock or a serialization failure.
macro_rules! run {
    ($store:expr, $connection:ident => $statement:expr) => {{
        let mut tries = $crate::pool::Tries::new();
        loop {
            let mut held = $store.connections.hold(&tries).await?;
            let outcome = {
                let $connection = held.connection();
                tokio::time::timeout_at(tries.deadline, $statement).await
            };
            match held.settle(outcome, &mut tries).await {
                std::ops::ControlFlow::Break(result) => break result,
                std::ops::ControlFlow::Continue(()) => {}
            }
        }
    }};
}
pub(super) use run;

/// How long a statement may still take, and how often it may still be sent again.
pub(super) struct Tries {
    pub(super) deadline: Instant,
    left: u32,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self { deadline: Instant::now() + LONGEST, left: Failure::StatementConflict.tries() - 1 }
    }
}

/// The pool. It connects when it is first used, so that starting does not need the database.
#[derive(Clone, Debug)]
pub(super) struct Connections(Pool<Connector>);

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
            let pong = tokio::time::timeout(PING_TIMEOUT, pooled.connection.ping()).await;
            pong.map_err(|_| RecycleError::message("no answer to a ping"))??;
        }
        pooled.used_at = now;
        Ok(())
    }
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions, max_connections: usize, clock: Clock) -> Self {
        let pool = Pool::builder(Connector { options, clock })
            .max_size(max_connections)
            // The backend that worked last has its caches at hand (docs/reports/performance.md).
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("a pool without time-outs needs no runtime");
        Self(pool)
    }

    pub(super) async fn hold(&self, tries: &Tries) -> Result<Held> {
        let acquired = tokio::time::timeout_at(tries.deadline, self.0.get()).await;
        match acquired {
            Ok(Ok(pooled)) => Ok(Held { pooled: Some(pooled), is_reusable: false }),
            Ok(Err(PoolError::Backend(error))) => Err(error.into()),
            Ok(Err(error)) => Err(Error::Unavailable(error.into())),
            Err(_) => Err(Error::Unavailable(anyhow::anyhow!("no connection within {LONGEST:?}"))),
        }
    }

    pub(super) fn close(&self) {
        self.0.close();
    }
}

/// A connection while a statement runs on it. Whoever stops waiting, by a timeout or because the caller hung up,
/// drops the connection with it: the statement's answer must not be read by the next user.
pub(super) struct Held {
    pooled: Option<Object<Connector>>,
    is_reusable: bool,
}

impl Held {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.pooled.as_mut().expect("taken only when dropped").connection
    }

    /// The statement's result, or after a pause another try.
    pub(super) async fn settle<T>(
        mut self,
        outcome: Result<sqlx::Result<T>, Elapsed>,
        tries: &mut Tries,
    ) -> ControlFlow<Result<T>> {
        let Ok(outcome) = outcome else {
            let slow = anyhow::anyhow!("a statement took longer than {LONGEST:?}");
            return ControlFlow::Break(Err(Error::Unavailable(slow)));
        };
        self.is_reusable = outcome.as_ref().map_or_else(is_harmless, |_| true);
        drop(self);
        match outcome {
            Err(sqlx::Error::Database(error)) if tries.left > 0 && error.code().is_some_and(|c| is_conflict(&c)) => {
                tries.left -= 1;
                let longest = Failure::StatementConflict.pause();
                let pause = rand::rng().random_range(Duration::ZERO..=longest);
                tokio::time::sleep(pause).await;
                ControlFlow::Continue(())
            }
            outcome => ControlFlow::Break(outcome.map_err(Error::from)),
        }
    }
}

/// Whether the connection is as good as before: the server answered, and did not say that it is going.
fn is_harmless(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::RowNotFound => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| !["08", "57", "58"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_reusable
            && let Some(pooled) = self.pooled.take()
        {
            drop(Object::take(pooled));
        }
    }
}
