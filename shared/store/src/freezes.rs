//! Freezes: actions that cannot be approved or used for a time (contract, "Freezes").

use std::time::Duration;

use chrono::{DateTime, Utc};
use relaytrace_domain::{ActionType, ActorKind, AgentId, Error, Faults, FreezeId, FreezeMode, Reason, Result};

use crate::Scope;
use crate::database::Database;

/// How long a call that makes a freeze waits for the statements that began before it: twice as long as the server lets one
/// take (`pool.rs`).
pub const SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// Time between two looks at the statements that are waited for.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What an administrator freezes.
#[derive(Clone, Debug)]
pub struct FreezeRule {
    /// Requests of this agent; `None`: of any.
    pub agent_id: Option<AgentId>,
    /// Actions of this type; `None`: of any.
    pub action_type: Option<ActionType>,
    /// Hold or stop.
    pub mode: FreezeMode,
    /// When it ends by itself; a hold within seven days.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: Reason,
}

/// A stored freeze.
#[derive(Clone, Debug)]
pub struct FreezeRecord {
    /// The administrator's own name of it.
    pub freeze_id: FreezeId,
    /// Requests of this agent; `None`: of any.
    pub agent_id: Option<AgentId>,
    /// Actions of this type; `None`: of any.
    pub action_type: Option<ActionType>,
    /// Hold or stop.
    pub mode: FreezeMode,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// From when on.
    pub created_at: DateTime<Utc>,
    /// The administrator who made it.
    pub created_by: String,
    /// When it was ended; `None`: it was not.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who ended it.
    pub ended_by: Option<String>,
    /// It was neither ended nor over.
    pub is_in_force: bool,
}

/// Which freezes.
#[derive(Clone, Debug, Default)]
pub struct FreezeFilter<'a> {
    /// Only of this name.
    pub freeze_id: Option<&'a FreezeId>,
    /// Only freezes in force, or only others.
    pub is_in_force: Option<bool>,
    /// Older than this one.
    pub after: Option<(DateTime<Utc>, FreezeId)>,
    /// At most so many.
    pub limit: i64,
}

impl Database {
    /// Makes a freeze, in place of another of its name; the same again is the freeze that stands. Returns when every
    /// statement has ended that began before it, and so might not know of it.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Unsettled`] where a statement did not end in time: the freeze stands all the same.
    pub async fn set_freeze(&self, scope: &Scope, freeze_id: &FreezeId, rule: &FreezeRule) -> Result<FreezeRecord> {
        let freeze = self.make_freeze(scope, freeze_id, rule).await?;
        self.settle(SETTLES_WITHIN).await?;
        Ok(freeze)
    }

    async fn make_freeze(&self, scope: &Scope, freeze_id: &FreezeId, rule: &FreezeRule) -> Result<FreezeRecord> {
        // Of those that replace one freeze at the same time, one does at each try.
        const TRIES: usize = 10;
        for _ in 0..TRIES {
            let row = self
                .one(|| {
                    sqlx::query_file!(
                        "sql/set_freeze.sql",
                        self.clock().for_database(),
                        scope.tenant.as_str(),
                        freeze_id.as_str(),
                        rule.agent_id.as_ref().map(AgentId::as_str),
                        rule.action_type.as_ref().map(ActionType::as_str),
                        rule.mode as FreezeMode,
                        rule.until,
                        rule.reason.as_str(),
                        scope.actor.kind as ActorKind,
                        &scope.actor.id,
                        scope.actor.name.as_deref(),
                    )
                })
                .await?;
            if let (Some(freeze_id), Some(mode), Some(until), Some(reason), Some(created_at), Some(created_by)) =
                (row.freeze_id, row.mode, row.until, row.reason, row.created_at, row.created_by)
            {
                return Ok(FreezeRecord {
                    freeze_id,
                    agent_id: row.agent_id,
                    action_type: row.action_type,
                    mode,
                    until,
                    reason,
                    created_at,
                    created_by,
                    ended_at: None,
                    ended_by: None,
                    is_in_force: row.is_in_force.unwrap_or_default(),
                });
            }
            let mut faults = Faults::default();
            for (holds, pointer, rule) in [
                (row.is_known, "/agent_id", "is no registered agent"),
                (row.is_ahead, "/until", "must lie in the future"),
                (row.is_short, "/until", "must lie within 7 days with the mode hold"),
            ] {
                if !holds {
                    faults.add(pointer, rule);
                }
            }
            if !faults.is_empty() {
                return Err(faults.into());
            }
        }
        Err(Error::Unavailable(anyhow::anyhow!("a freeze found neither its place nor what took it")))
    }

    /// Waits until every transaction has ended that is there now and may write requests.
    ///
    /// # Errors
    /// [`Error::Unsettled`] where one has not ended `within` this time.
    pub async fn settle(&self, within: Duration) -> Result<()> {
        tokio::time::timeout(within, self.writers_end()).await.unwrap_or(Err(Error::Unsettled))
    }

    /// Waits until every transaction has ended that is there now and may write requests, however long that takes.
    pub(crate) async fn writers_end(&self) -> Result<()> {
        let mut there = self.writers_of_requests(None).await?;
        while !there.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
            there = self.writers_of_requests(Some(&there)).await?;
        }
        Ok(())
    }

    /// Transactions that may write requests; of `only` these, those that are still there.
    async fn writers_of_requests(&self, only: Option<&[String]>) -> Result<Vec<String>> {
        let there = self.all(|| sqlx::query_file!("sql/writers_of_requests.sql", only)).await?;
        Ok(there.into_iter().map(|writer| writer.transaction).collect())
    }

    /// Freezes, the newest first.
    pub async fn freezes(&self, scope: &Scope, filter: &FreezeFilter<'_>) -> Result<Vec<FreezeRecord>> {
        let after = filter.after.as_ref();
        self.all(|| {
            sqlx::query_file_as!(
                FreezeRecord,
                "sql/freezes.sql",
                self.clock().for_database(),
                scope.tenant.as_str(),
                filter.freeze_id.map(FreezeId::as_str),
                filter.is_in_force,
                after.map(|(at, _)| *at),
                after.map(|(_, freeze_id)| freeze_id.as_str()),
                filter.limit,
            )
        })
        .await
    }

    /// The newest freeze of a name, unless it was ended.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn freeze(&self, scope: &Scope, freeze_id: &FreezeId) -> Result<FreezeRecord> {
        self.newest_freeze(scope, freeze_id).await?.filter(|freeze| freeze.ended_at.is_none()).ok_or(Error::NotFound)
    }

    async fn newest_freeze(&self, scope: &Scope, freeze_id: &FreezeId) -> Result<Option<FreezeRecord>> {
        let filter = FreezeFilter { freeze_id: Some(freeze_id), limit: 1, ..FreezeFilter::default() };
        Ok(self.freezes(scope, &filter).await?.pop())
    }

    /// Ends a freeze. Ending it again is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn end_freeze(&self, scope: &Scope, freeze_id: &FreezeId) -> Result<()> {
        let ended = self
            .execute(|| {
                sqlx::query_file!(
                    "sql/end_freeze.sql",
                    self.clock().for_database(),
                    scope.tenant.as_str(),
                    freeze_id.as_str(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                )
            })
            .await?;
        if ended.rows_affected() == 0 && self.newest_freeze(scope, freeze_id).await?.is_none() {
            return Err(Error::NotFound);
        }
        Ok(())
    }
}
