//! The database as every module of this crate uses it: a pool, a clock, scan hints, and the rules of deliveries. It
//! knows no aggregate: each adds its own operations.

use std::sync::Arc;

use quick_cache::sync::Cache;
use relaytrace_domain::signing::Attestor;
use relaytrace_domain::{AgentId, Clock, DeliveryRules, Digest, Error, PermitRules, RequestId, Result};
use sqlx::Connection as _;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgQueryResult, PgRow, Postgres};
use sqlx::query::{Map, Query};

use crate::counts::SharedCounts;
use crate::judging::KnownRules;
use crate::measures::Measures;
use crate::pool::{Connections, PoolState, run};
use crate::rule_counts::RuleCounts;
use crate::scan_hints::ScanHints;

/// Every operation but the writes that may go in batches, which are [`crate::Store`]'s.
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) connections: Connections,
    /// The half of them that leases may use: a lock on deliveries does not stop submissions.
    pub(crate) polls: Connections,
    clock: Clock,
    pub(crate) rules: Arc<DeliveryRules>,
    /// How permits are handled.
    pub(crate) permits: PermitRules,
    /// What decisions are signed with.
    pub(crate) attestor: Arc<Attestor>,
    /// Of deliveries, for each agent.
    pub(crate) due: Arc<ScanHints<AgentId>>,
    /// Of the outbox.
    pub(crate) left_over: Arc<ScanHints<()>>,
    /// Counts of pending requests, for each tenant.
    pub(crate) counts: Arc<SharedCounts>,
    /// What submissions are judged by.
    pub(crate) known_rules: Arc<KnownRules>,
    /// What rules did, to be written.
    pub(crate) rule_counts: Arc<RuleCounts>,
    /// Digests of the actions that this process stored last, of requests that one approval decides. Neither ever changes.
    pub(crate) actions: Arc<Cache<RequestId, Digest>>,
    /// What it measures.
    pub(crate) measures: Arc<Measures>,
}

/// How many digests are remembered: some 100 bytes each.
const ACTIONS: usize = 10_000;

/// A statement of `sql/` with its parameters, and how its rows are read.
type Rows<F> = Map<'static, Postgres, F, PgArguments>;

impl Database {
    pub(crate) fn connect_lazily(options: PgConnectOptions, max_connections: usize, clock: Clock) -> Self {
        let connections = Connections::new(options, max_connections, clock.clone());
        let polls = connections.half();
        let (due, left_over) = (Arc::new(ScanHints::new()), Arc::new(ScanHints::new()));
        Self {
            connections,
            polls,
            clock,
            rules: Arc::default(),
            permits: PermitRules::default(),
            attestor: Arc::default(),
            due,
            left_over,
            counts: Arc::default(),
            known_rules: Arc::default(),
            rule_counts: Arc::default(),
            actions: Arc::new(Cache::new(ACTIONS)),
            measures: Arc::default(),
        }
    }

    pub(crate) fn attest_by(&mut self, attestor: Arc<Attestor>) {
        self.attestor = attestor;
    }

    pub(crate) fn permit_by(&mut self, permits: PermitRules) {
        self.permits = permits;
    }

    pub(crate) fn measure_by(&mut self, measures: Arc<Measures>) {
        self.measures = measures;
    }

    pub(crate) fn deliver_by(&mut self, rules: DeliveryRules) {
        self.rules = Arc::new(rules);
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

    /// What it measures.
    #[must_use]
    pub fn measures(&self) -> &Arc<Measures> {
        &self.measures
    }

    /// Connections of the pool, at this moment.
    #[must_use]
    pub fn pool(&self) -> PoolState {
        self.connections.state()
    }

    /// Closes the pool.
    pub fn close(&self) {
        self.connections.close();
    }

    /// The clock that its statements use.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How decisions are delivered.
    #[must_use]
    pub fn rules(&self) -> &DeliveryRules {
        &self.rules
    }

    /// All rows of a statement. It is made again for each try.
    pub(crate) async fn all<T, F>(&self, statement: impl Fn() -> Rows<F>) -> Result<Vec<T>>
    where
        F: FnMut(PgRow) -> sqlx::Result<T> + Send,
        T: Send + Unpin,
    {
        run!(self, connection => statement().fetch_all(connection))
    }

    /// All rows of a statement on the half of the pool that is for polls.
    pub(crate) async fn all_for_polls<T, F>(&self, statement: impl Fn() -> Rows<F>) -> Result<Vec<T>>
    where
        F: FnMut(PgRow) -> sqlx::Result<T> + Send,
        T: Send + Unpin,
    {
        run!(on self.polls, connection => statement().fetch_all(connection))
    }

    /// The row of a statement that has one at the most.
    pub(crate) async fn optional<T, F>(&self, statement: impl Fn() -> Rows<F>) -> Result<Option<T>>
    where
        F: FnMut(PgRow) -> sqlx::Result<T> + Send,
        T: Send + Unpin,
    {
        run!(self, connection => statement().fetch_optional(connection))
    }

    /// The row of a statement that always has one.
    pub(crate) async fn one<T, F>(&self, statement: impl Fn() -> Rows<F>) -> Result<T>
    where
        F: FnMut(PgRow) -> sqlx::Result<T> + Send,
        T: Send + Unpin,
    {
        run!(self, connection => statement().fetch_one(connection))
    }

    /// Runs a statement without rows.
    pub(crate) async fn execute(
        &self,
        statement: impl Fn() -> Query<'static, Postgres, PgArguments>,
    ) -> Result<PgQueryResult> {
        run!(self, connection => statement().execute(connection))
    }
}
