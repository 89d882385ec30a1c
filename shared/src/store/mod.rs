//! Every statement that RelayTrace sends, one module for each aggregate.
//!
//! A write is ONE statement in its own implicit READ COMMITTED transaction: state, chain entry, outbox row and
//! dedupe row together, or nothing. It is guarded by the state that it expects, and no row is an answer, not an
//! error: a second statement finds out why. Locks are taken in one order everywhere, request before delivery, many
//! rows in key order.

/// Runs one statement on a connection of the pool: bounded in time, and again when it lost against another by a
/// deadlock or a serialization failure.
macro_rules! run {
    ($store:expr, $connection:ident => $statement:expr) => {{
        let mut attempt = 1;
        loop {
            let mut held = $store.hold().await?;
            let outcome = {
                let $connection = held.connection();
                tokio::time::timeout($crate::store::STATEMENT_TIMEOUT, $statement).await
            };
            match held.settle(outcome, &mut attempt).await {
                std::ops::ControlFlow::Break(result) => break result,
                std::ops::ControlFlow::Continue(()) => {}
            }
        }
    }};
}

mod agents;
mod chain;
mod decisions;
mod deliveries;
mod escalations;
mod outbox;
mod queue;
mod requests;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Connection, PgPool, Postgres};
use tokio::time::error::Elapsed;

pub use agents::{AgentKey, AgentRecord, KeyRecord, Registered};
pub use chain::ChainExport;
pub use decisions::{Decided, Deciding};
pub use deliveries::{Ack, Acked, Delivered, LeaseOrder, Leased};
pub use outbox::OutboxEvent;
pub use queue::{Counts, Detail, QueueFilter, QueueItem, QueuePage, QueuePosition};
pub use requests::{RequestState, Submitted};

use crate::clock::Clock;
use crate::domain::{AgentId, KeyId};
use crate::error::{Error, Result, is_conflict};

/// The migrations of `migrations/`.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// Longest time that a statement may take; its connection is dropped when it takes longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer, by the wall clock, is pinged before it is used: in a frozen process the
/// monotonic clock may have stood still while the server hung up.
const PING_AFTER: Duration = Duration::from_secs(1);

/// An agent and the key that its token was signed with: every statement of an agent asks whether both are active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`.
    pub agent_id: AgentId,
    /// The token's `kid`.
    pub key_id: KeyId,
}

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    clock: Clock,
}

impl Store {
    /// A store whose pool connects when it is first used, so that starting does not need the database.
    #[must_use]
    pub fn connect_lazily(options: PgConnectOptions, max_connections: u32, clock: Clock) -> Self {
        let last_used = Arc::new(AtomicI64::new(0));
        let wall = clock.clone();
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let now = wall.now().timestamp_millis();
                let asleep = now - last_used.swap(now, Ordering::Relaxed);
                let idle = meta.idle_for.max(Duration::from_millis(asleep.try_into().unwrap_or_default()));
                Box::pin(async move {
                    if idle > PING_AFTER {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Self { pool, clock }
    }

    /// A store over a pool that a test made.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn over(pool: PgPool, clock: Clock) -> Self {
        Self { pool, clock }
    }

    /// Applies what is missing of `migrations/`. Needs the owner's rights, which the functions do not have.
    pub async fn migrate(&self) -> Result<()> {
        MIGRATOR.run(&self.pool).await.map_err(Error::internal)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        run!(self, connection => connection.ping())
    }

    /// Waits for running statements and closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// The clock that its statements use.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn hold(&self) -> Result<Held> {
        Ok(Held { connection: self.pool.acquire().await?, is_settled: false })
    }
}

/// A connection while a statement runs on it. Whoever stops waiting, by a timeout or because the caller hung up,
/// drops the connection with it: the statement's answer must not be read by the next user.
struct Held {
    connection: PoolConnection<Postgres>,
    is_settled: bool,
}

impl Held {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// The statement's result, or after a pause another try.
    async fn settle<T>(
        mut self,
        outcome: Result<sqlx::Result<T>, Elapsed>,
        attempt: &mut u32,
    ) -> ControlFlow<Result<T>> {
        /// Tries of a statement that loses against others.
        const TRIES: u32 = 4;
        let Ok(outcome) = outcome else {
            let slow = anyhow::anyhow!("a statement took longer than {STATEMENT_TIMEOUT:?}");
            return ControlFlow::Break(Err(Error::Unavailable(slow)));
        };
        self.is_settled = true;
        drop(self);
        match outcome {
            Err(sqlx::Error::Database(error)) if *attempt < TRIES && error.code().is_some_and(|c| is_conflict(&c)) => {
                let pause = rand::rng().random_range(1..=10 * *attempt);
                tokio::time::sleep(Duration::from_millis(pause.into())).await;
                *attempt += 1;
                ControlFlow::Continue(())
            }
            outcome => ControlFlow::Break(outcome.map_err(Error::from)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_settled {
            self.connection.close_on_drop();
        }
    }
}
