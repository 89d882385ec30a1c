//! Every statement that RelayTrace sends, one module for each aggregate.
//!
//! A write is ONE statement in its own implicit READ COMMITTED transaction: state, chain entry, outbox row and
//! dedupe row together, or nothing. It is guarded by the state that it expects, and no row is an answer, not an
//! error: a second statement finds out why. Locks are taken in one order everywhere, request before delivery, many
//! rows in key order.

mod acknowledgements;
mod adjustments;
mod admin_log;
mod agents;
mod answers;
mod assignments;
mod authority;
mod batches;
mod bridges;
mod browsers;
mod chain;
mod counts;
mod database;
mod dead_letters;
mod decided_at_once;
mod decisions;
mod delegations;
mod deliveries;
mod detail;
mod epochs;
mod erasure;
mod escalations;
mod freezes;
mod gauges;
mod install;
mod instances;
mod judging;
mod leases;
mod listeners;
mod measures;
mod notifications;
mod operators;
mod outbox;
mod own_requests;
mod permits;
mod policies;
mod pool;
mod queue;
mod redeliveries;
mod replays;
mod requests;
mod rule_counts;
mod rules;
mod scan_hints;
mod scope;
mod sla;
mod stale;
mod standing;
mod sweep_failures;
mod tenants;
mod trying;
mod views;
mod votes;
mod writers;

use futures_util::FutureExt as _;

pub use acknowledgements::{Ack, Acked};
pub use adjustments::Adjustment;
pub use admin_log::{LogFilter, LogRecord};
pub use agents::{AgentChange, AgentKey, AgentRecord, Caps, KeyRecord, NewKey, Registered};
pub use answers::{Answered, Answering};
pub use assignments::Rerouting;
pub use authority::DatabaseAuthority;
pub use batches::WRITERS;
pub use bridges::{BridgedRequest, HookCall};
pub use browsers::{BrowserMatch, BrowserRecord, NewBrowser};
pub use chain::ChainExport;
pub use counts::Counts;
pub use database::Database;
pub use dead_letters::{DeadLetterFilter, DeadLetterRecord, RefusedEvent};
pub use decided_at_once::DecidedAtOnce;
pub use decisions::{Asked, Authority, Decided, Deciding};
pub use delegations::{DelegationFilter, DelegationRecord, DelegationRule};
pub use deliveries::{Delivered, LeaseOrder, Leased};
pub use detail::{DeliverySeen, Detail};
pub use epochs::{DeclaredRestore, ToldEntry, declare_restore};
pub use erasure::erase;
pub use freezes::{FreezeFilter, FreezeRecord, FreezeRule, SETTLES_WITHIN};
pub use gauges::Gauges;
pub use install::{MIGRATOR, ROLE_SETTINGS, RolePrefix, migrate, prepare_login, prepare_role};
pub use instances::{InstanceRecord, NewInstance, Provisioned};
pub use leases::OnItsWay;
pub use listeners::{ChannelRecord, NewChannel, PushRecord};
pub use measures::{CALL_SECONDS, Histogram, Measures, Seen};
pub use notifications::{ListenerKind, Notification, RESOLVED, Then, Tried, Turn};
pub use operators::{OperatorPage, OperatorRecord, OperatorSeen};
pub use outbox::{FOR_POLLS, OutboxEvent};
pub use own_requests::{PendingPage, PendingPosition};
pub use permits::{Consumed, Consuming, Noted, Reporting};
pub use policies::{PolicyRecord, PolicyRule};
pub use pool::PoolState;
pub use queue::{Assignee, QueueFilter, QueueItem, QueueOrder, QueuePage, QueuePosition, ReportedError};
pub use replays::{Replay, ReplayBatch, ReplayOrder};
pub use requests::{RequestState, Submitted, Taking};
pub use rule_counts::{RuleCount, RuleCounts};
pub use rules::RulesRecord;
pub use scope::{Caller, Scope};
pub use sla::{SLA_REQUESTS, SlaRecord};
pub use stale::{StaleFilter, StaleItem};
pub use tenants::{TenantLimits, TenantRecord, TenantStanding};
pub use trying::{AskFilter, AskPage, StoredAsk};
pub use writers::Store;

use pool::run;
use relaytrace_domain::Result;

impl Database {
    /// Versions of the migrations of this build that the database lacks.
    ///
    /// # Errors
    /// `Error::Unavailable`, and `Error::Internal` where the role may not look.
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
}
