//! State shared by all handlers: built once for each process, in the init phase, without waiting for any server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::sync::RwLock;

use crate::auth::Authenticator;
use crate::config::{Config, HookRules, PageSettings, SubmissionRules, TimeoutRules};
use crate::events::{Events, Publishing};
use crate::http::{MAX_BODY_BYTES, ServerLimits};
use crate::metrics::Metrics;
use crate::needs::DatabaseAuthority;
use crate::traces::Traces;
use relaytrace_domain::signing::ReceiptKeys;
use relaytrace_domain::{Clock, Error, TenantId};
use relaytrace_reach::Reach;
use relaytrace_store::{Measures, PoolState, RuleCounts, Scope, Store, Taking};

use crate::relay::Relay;
use crate::vitals::Vitals;

/// Shared state. Calls clone it several times: it is one value for all.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Shared>);

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// For what is set before the first call; other clones keep what they have.
impl DerefMut for AppState {
    fn deref_mut(&mut self) -> &mut Shared {
        Arc::make_mut(&mut self.0)
    }
}

/// What an [`AppState`] holds.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The database.
    pub store: Store,
    /// The stream and the wake-ups.
    pub events: Events,
    /// Writes that others hear of.
    pub relay: Relay,
    /// Verifies tokens.
    pub authenticator: Arc<Authenticator>,
    /// Registers response secrets.
    pub master_secrets: Arc<crate::auth::MasterSecrets>,
    /// Makes bearer keys, where this process may.
    pub bearer_master: Option<Arc<crate::auth::BearerMaster>>,
    /// Signs receipts.
    pub receipt_keys: Arc<ReceiptKeys>,
    /// The tenant whose administrators see to the deployment itself.
    pub home_tenant: TenantId,
    /// How submissions are taken.
    pub submissions: SubmissionRules,
    /// What a timeout may do.
    pub timeouts: TimeoutRules,
    /// How hooks are answered.
    pub hooks: HookRules,
    /// The operator page as this process serves it.
    pub page: Arc<PageSettings>,
    /// How others are reached.
    pub reach: Arc<Reach>,
    /// Longest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// What callers of the plain HTTP server may take up.
    pub server: ServerLimits,
    /// How this process is.
    pub vitals: Vitals,
    /// What it measures.
    pub metrics: Metrics,
    /// Spans of its calls.
    pub traces: Traces,
    /// Where it is scraped.
    pub metrics_address: Option<SocketAddr>,
    /// Namespace of its metrics in CloudWatch.
    pub metrics_namespace: String,
    /// Held for reading by what works beside the calls: the process stops when it has ended.
    pub working: Arc<RwLock<()>>,
    /// The time.
    pub clock: Clock,
    /// Connections of the authorities that have their own.
    authorities: Arc<BTreeMap<DatabaseAuthority, Store>>,
}

impl AppState {
    /// State from the configuration. Must be called within a runtime.
    #[must_use]
    pub fn new(config: Config, clock: &Clock, publishing: Publishing) -> Self {
        let attestor = Arc::new(config.attestor);
        let rule_counts = Arc::new(RuleCounts::default());
        // Where nothing scrapes, what was measured is written with each answer.
        let measures = Arc::new(Measures::new(publishing == Publishing::BeforeResponse));
        let connect = |database| {
            let store = Store::connect_lazily(database, config.database_max_connections, clock.clone());
            let store = store.measuring(measures.clone());
            let store =
                store.delivering(config.delivery.clone()).permitting(config.permits).attesting(attestor.clone());
            let store = store.counting_in(rule_counts.clone());
            if publishing == Publishing::Behind { store.in_batches() } else { store }
        };
        let store = connect(config.database);
        let authorities = config.authorities.into_iter().map(|(authority, database)| (authority, connect(database)));
        let authorities = Arc::new(authorities.collect::<BTreeMap<_, _>>());
        // People are noted by an authority of theirs, where the process has one. Keys of agents are the agents' to read.
        let of = |authority: DatabaseAuthority| authorities.get(&authority).cloned();
        let of_people = of(DatabaseAuthority::People).or_else(|| of(DatabaseAuthority::Ops));
        let of_people = of_people.or_else(|| authorities.is_empty().then(|| store.clone()));
        let store = of(DatabaseAuthority::Agent).unwrap_or(store);
        let Self(state) = Self::with_stores(
            (store, of_people),
            Events::new(config.nats, publishing),
            config.issuers,
            config.token_rules,
            config.master_secrets,
            config.receipt_keys,
        );
        Self(Arc::new(Shared {
            bearer_master: config.bearer_master,
            submissions: config.submissions,
            timeouts: config.timeouts,
            hooks: config.hooks,
            page: Arc::new(config.page),
            reach: Arc::new(Reach::new(config.reach)),
            max_body_bytes: config.max_body_bytes,
            server: config.server,
            metrics_address: config.metrics,
            metrics_namespace: config.metrics_namespace,
            traces: Traces::new(config.traces.as_ref()),
            authorities,
            ..Arc::unwrap_or_clone(state)
        }))
    }

    /// How submissions are taken.
    #[must_use]
    pub fn taking(&self) -> Taking {
        Taking {
            kept_seconds: self.submissions.dedupe_seconds,
            may_approve: self.timeouts.allow_auto_approve,
            // Without a receipt key no answer carries a decision: its agent polls for it.
            is_leased: self.receipt_keys.can_sign(),
        }
    }

    /// Connects to Postgres and NATS, so that the first call need not. A server that is away is not waited for longer
    /// than a statement is; connections are made again when they are needed.
    pub async fn connect(&self) {
        let (postgres, ()) = tokio::join!(self.ping(), self.events.connect());
        if let Err(error) = postgres {
            tracing::warn!(error = format!("{error:#}"), "Postgres is not there yet");
        }
    }

    /// Prepares the stores for their first callers ([`Store::warm_up`]).
    pub async fn warm_up(&self) {
        for store in self.stores() {
            store.warm_up().await;
        }
    }

    async fn ping(&self) -> relaytrace_domain::Result<()> {
        for store in self.stores() {
            store.ping().await?;
        }
        Ok(())
    }

    /// The same state over the connections of this authority, where it has its own.
    #[must_use]
    pub fn acting_by(&self, authority: DatabaseAuthority) -> Self {
        let Some(store) = self.authorities.get(&authority) else { return self.clone() };
        let relay = Relay::new(store.clone(), self.events.clone());
        Self(Arc::new(Shared { store: store.clone(), relay, ..Shared::clone(self) }))
    }

    /// Admits administrators who see to what is all tenants' at once.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for those of another tenant than the deployment's own.
    pub fn admit_to_deployment(&self, scope: &Scope) -> relaytrace_domain::Result<()> {
        if scope.tenant == self.home_tenant {
            return Ok(());
        }
        Err(Error::Forbidden("this is done for all tenants, by administrators of the deployment's own"))
    }

    /// Whether the database takes writes, of each authority.
    ///
    /// # Errors
    /// The first that it does not take.
    pub async fn can_write(&self) -> relaytrace_domain::Result<()> {
        for store in self.stores() {
            store.can_write().await?;
        }
        Ok(())
    }

    /// The pools of this process.
    fn stores(&self) -> impl Iterator<Item = &Store> {
        let of_all = self.authorities.is_empty().then_some(&self.store);
        self.authorities.values().chain(of_all)
    }

    /// Waits until what rules did is counted, a second at the most.
    pub async fn settle_rule_counts(&self) {
        // Counted together with the other stores'.
        self.store.settle_rule_counts().await;
    }

    /// The pools at this moment.
    pub(crate) fn pools(&self) -> impl Iterator<Item = PoolState> {
        self.stores().map(|store| store.pool())
    }

    /// Closes the pools.
    pub fn close(&self) {
        self.store.close();
        self.authorities.values().for_each(|store| store.close());
    }

    /// State over a given store.
    #[must_use]
    pub fn with_store(
        store: Store,
        events: Events,
        issuers: impl Into<crate::auth::Issuers>,
        token_rules: crate::auth::TokenRules,
        master_secrets: Arc<crate::auth::MasterSecrets>,
        receipt_keys: ReceiptKeys,
    ) -> Self {
        let stores = (store.clone(), Some(store));
        Self::with_stores(stores, events, issuers.into(), token_rules, master_secrets, receipt_keys)
    }

    /// State over a store, and another that people are looked up and noted by.
    fn with_stores(
        (store, of_people): (Store, Option<Store>),
        events: Events,
        issuers: crate::auth::Issuers,
        token_rules: crate::auth::TokenRules,
        master_secrets: Arc<crate::auth::MasterSecrets>,
        receipt_keys: ReceiptKeys,
    ) -> Self {
        let home_tenant = issuers.home_tenant();
        let authenticator = Authenticator::new(token_rules, store.clone(), of_people, issuers, master_secrets.clone());
        let clock = store.clock().clone();
        let measures = store.measures().clone();
        Self(Arc::new(Shared {
            home_tenant,
            relay: Relay::new(store.clone(), events.clone()),
            store,
            events,
            authenticator: Arc::new(authenticator),
            master_secrets,
            bearer_master: None,
            receipt_keys: Arc::new(receipt_keys),
            submissions: SubmissionRules::default(),
            timeouts: TimeoutRules::default(),
            hooks: HookRules::default(),
            page: Arc::default(),
            reach: Arc::default(),
            max_body_bytes: MAX_BODY_BYTES,
            server: ServerLimits::default(),
            vitals: Vitals::default(),
            metrics: Metrics::new(measures),
            metrics_address: None,
            metrics_namespace: String::new(),
            traces: Traces::default(),
            working: Arc::default(),
            clock,
            authorities: Arc::default(),
        }))
    }
}
