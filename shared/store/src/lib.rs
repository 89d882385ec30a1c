//! Every statement that RelayTrace sends, one module for each aggregate.
//!
//! A write is ONE statement in its own implicit READ COMMITTED transaction: state, chain entry, outbox row and
//! dedupe row together, or nothing. It is guarded by the state that it expects, and no row is an answer, not an
//! error: a second statement finds out why. Locks are taken in one order everywhere, request before delivery, many
//! rows in key order.

mod acknowledgements;
mod adjustments;
mod agents;
mod authority;
mod batches;
mod chain;
mod dead_letters;
mod decisions;
mod deliveries;
mod escalations;
mod install;
mod leases;
mod outbox;
mod own_requests;
mod policies;
mod pool;
mod queue;
mod redeliveries;
mod replays;
mod requests;
mod scan_hints;
mod stale;
mod sweep_failures;

use std::sync::Arc;

use futures_util::FutureExt as _;
use sqlx::Connection as _;
use sqlx::postgres::PgConnectOptions;

pub use acknowledgements::{Ack, Acked};
pub use adjustments::Adjustment;
pub use agents::{AgentChange, AgentKey, AgentRecord, Caps, KeyRecord, Registered};
pub use authority::DatabaseAuthority;
pub use batches::WRITERS;
pub use chain::ChainExport;
pub use dead_letters::{DeadLetterFilter, DeadLetterRecord, RefusedEvent};
pub use decisions::{Decided, Deciding};
pub use deliveries::{Delivered, LeaseOrder, Leased};
pub use install::{MIGRATOR, ROLE_SETTINGS, RolePrefix, migrate, prepare_login, prepare_role};
pub use outbox::{FOR_POLLS, OutboxEvent};
pub use own_requests::{PendingPage, PendingPosition};
pub use policies::{PolicyRecord, PolicyRule};
pub use queue::{
    Assignee, Counts, DeliverySeen, Detail, QueueFilter, QueueItem, QueueOrder, QueuePage, QueuePosition, ReportedError,
};
pub use replays::{Replay, ReplayBatch, ReplayOrder};
pub use requests::{RequestState, Submitted};
pub use stale::{StaleFilter, StaleItem};

use relaytrace_domain::Clock;
use relaytrace_domain::{AgentId, KeyId};
use relaytrace_domain::{Error, Result};

use batches::{Batches, Row, alone};
use pool::{Connections, run};
use requests::Submitting;
use scan_hints::ScanHints;

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
    connections: Connections,
    /// The half of them that leases may use: a lock on deliveries does not stop submissions.
    polls: Connections,
    clock: Clock,
    /// Of deliveries, for each agent.
    due: Arc<ScanHints<AgentId>>,
    /// Of the outbox.
    left_over: Arc<ScanHints<()>>,
    /// Of what is pending.
    counts: Arc<queue::SharedCounts>,
    /// `None`: each write has a statement of its own.
    batches: Option<Arc<Batched>>,
}

/// What is written together with what waits beside it.
#[derive(Debug, Default)]
struct Batched {
    submitting: Batches<Submitting>,
    acknowledging: Batches<Ack>,
    deciding: Batches<Deciding>,
}

impl Store {
    /// A store that connects when it is first used, so that starting does not need the database.
    #[must_use]
    pub fn connect_lazily(options: PgConnectOptions, max_connections: usize, clock: Clock) -> Self {
        let connections = Connections::new(options, max_connections, clock.clone());
        let polls = connections.half();
        let (due, left_over) = (Arc::new(ScanHints::new()), Arc::new(ScanHints::new()));
        Self { connections, polls, clock, due, left_over, counts: Arc::default(), batches: None }
    }

    /// Writes submissions, decisions and acknowledgements that come at the same time together, by tasks of this process:
    /// not where nothing may be left running after an answer.
    #[must_use]
    pub fn in_batches(self) -> Self {
        Self { batches: Some(Arc::default()), ..self }
    }

    /// Writes a row: with those that wait beside it, or with a statement of its own. `None`: nothing was written.
    async fn write<R: Row>(&self, batches: fn(&Batched) -> &Batches<R>, row: &Arc<R>) -> Result<Option<R::Written>> {
        match &self.batches {
            Some(batched) => batches(batched).write(self, row.clone()).await,
            None => alone(self, &**row).await,
        }
    }

    /// KiB of submissions, decisions and acknowledgements that wait to be written or are being written, in batches.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let waiting = |of: &Arc<Batched>| of.submitting.waiting() + of.acknowledging.waiting() + of.deciding.waiting();
        self.batches.as_ref().map_or(0, waiting)
    }

    /// Versions of the migrations of this build that the database lacks.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Internal`] where the role may not look.
    pub async fn missing_migrations(&self) -> Result<Vec<i64>> {
        const UNDEFINED_TABLE: &str = "42P01";
        let applied = run!(self, connection => sqlx::query_scalar::<_, i64>(
            "/* relaytrace: missing_migrations */ SELECT version FROM _sqlx_migrations WHERE success",
        )
        .fetch_all(connection)
        .map(|applied| match applied {
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == UNDEFINED_TABLE) => Ok(Vec::new()),
            applied => applied,
        }))?;
        let known = MIGRATOR.iter().map(|migration| migration.version);
        Ok(known.filter(|version| !applied.contains(version)).collect())
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        run!(self, connection => connection.ping())
    }

    /// Whether the database takes writes: it answers, and neither it nor the session is read-only. Where it is, the pool's
    /// connections are dropped, so that the next statement asks the server that has taken over.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it does not.
    pub async fn can_write(&self) -> Result<()> {
        let is_read_only: bool = run!(self, connection =>
            sqlx::query_scalar("/* relaytrace: can_write */ SELECT current_setting('transaction_read_only')::boolean")
                .fetch_one(connection))?;
        if is_read_only {
            self.connections.renew();
            return Err(Error::Unavailable(anyhow::anyhow!("the database is read-only")));
        }
        Ok(())
    }

    /// Lets nobody have a connection any more.
    pub fn close(&self) {
        self.connections.close();
    }

    /// The clock that its statements use.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}
