//! Tenants: whose everything is, and what owners do with them.

use chrono::{DateTime, Utc};
use relaytrace_domain::{ActorKind, AgentId, Error, RequestId, Result, TenantId};

use crate::Scope;
use crate::database::Database;

/// Keys that one statement revokes.
const REVOKED_AT_ONCE: i64 = 1_000;

/// What a tenant's tokens meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantStanding {
    /// Whether they are accepted.
    pub is_active: bool,
    /// Submissions in a minute that each process takes of its agents; `None`: any number.
    pub submissions_per_minute: Option<i32>,
}

/// A tenant as owners see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRecord {
    /// Names it, for ever.
    pub tenant_id: TenantId,
    /// `active` or `suspended`.
    pub status: String,
    /// Submissions in a minute that each process takes of its agents; `None`: any number.
    pub submissions_per_minute: Option<i32>,
    /// Agents that it may have, disabled ones not counted; `None`: any number.
    pub max_agents: Option<i32>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Limits of a tenant: the outer `None` leaves one as it is, the inner takes it away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Submissions in a minute.
    pub submissions_per_minute: Option<Option<i32>>,
    /// Agents.
    pub max_agents: Option<Option<i32>>,
}

impl Database {
    /// How a tenant stands. `None`: there is none of this name.
    pub async fn tenant_standing(&self, tenant: &TenantId) -> Result<Option<TenantStanding>> {
        self.optional(|| sqlx::query_file_as!(TenantStanding, "sql/tenant_standing.sql", tenant.as_str())).await
    }

    /// Tenants in the order of their ids, after `cursor`, at most `limit`.
    pub async fn tenants(&self, cursor: Option<&str>, limit: i64) -> Result<Vec<TenantRecord>> {
        self.all(|| sqlx::query_file_as!(TenantRecord, "sql/tenants.sql", cursor.unwrap_or_default(), limit)).await
    }

    /// Makes a tenant. The flag says whether it is new: the same tenant with the same limits again is no error.
    ///
    /// # Errors
    /// [`Error::Conflict`] where it is there with other limits.
    pub async fn register_tenant(
        &self,
        by: &Scope,
        tenant: &TenantId,
        limits: TenantLimits,
    ) -> Result<(TenantRecord, bool)> {
        let (submissions, agents) = (limits.submissions_per_minute.flatten(), limits.max_agents.flatten());
        let made = self
            .optional(|| {
                sqlx::query_file_as!(
                    TenantRecord,
                    "sql/register_tenant.sql",
                    self.clock().for_database(),
                    tenant.as_str(),
                    submissions,
                    agents,
                    by.actor.kind as ActorKind,
                    &by.actor.id,
                    by.actor.name.as_deref(),
                )
            })
            .await?;
        if let Some(made) = made {
            return Ok((made, true));
        }
        let standing = self.optional(|| sqlx::query_file_as!(TenantRecord, "sql/tenant.sql", tenant.as_str())).await?;
        match standing {
            Some(record) if (record.submissions_per_minute, record.max_agents) == (submissions, agents) => {
                Ok((record, false))
            }
            _ => Err(Error::Conflict("a tenant of this id is there with other limits: change it with PATCH")),
        }
    }

    /// Changes a tenant. `None`: there is none of this name.
    pub async fn change_tenant(
        &self,
        by: &Scope,
        tenant: &TenantId,
        status: Option<&str>,
        limits: TenantLimits,
        reason: Option<&str>,
    ) -> Result<Option<TenantRecord>> {
        self.optional(|| {
            sqlx::query_file_as!(
                TenantRecord,
                "sql/change_tenant.sql",
                self.clock().for_database(),
                tenant.as_str(),
                status,
                limits.submissions_per_minute.is_some(),
                limits.submissions_per_minute.flatten(),
                limits.max_agents.is_some(),
                limits.max_agents.flatten(),
                by.actor.kind as ActorKind,
                &by.actor.id,
                by.actor.name.as_deref(),
                reason,
            )
        })
        .await
    }

    /// Disables an agent and revokes its keys for good. The number of keys that this call revoked; `None`: there is no such
    /// agent.
    pub async fn offboard_agent(&self, scope: &Scope, agent_id: &AgentId, reason: &str) -> Result<Option<i64>> {
        let ended = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/offboard_agent.sql",
                    self.clock().for_database(),
                    agent_id.as_str(),
                    scope.tenant.as_str(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                    reason,
                )
            })
            .await?;
        Ok(ended.map(|ended| ended.keys))
    }

    /// Suspends a tenant and revokes keys of its agents for good, at most 1,000. The number of keys that this call revoked;
    /// `None`: there is no such tenant.
    pub async fn offboard_tenant(&self, by: &Scope, tenant: &TenantId, reason: &str) -> Result<Option<i64>> {
        let ended = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/offboard_tenant.sql",
                    self.clock().for_database(),
                    tenant.as_str(),
                    by.actor.kind as ActorKind,
                    &by.actor.id,
                    by.actor.name.as_deref(),
                    reason,
                    REVOKED_AT_ONCE,
                )
            })
            .await?;
        Ok(ended.map(|ended| ended.keys))
    }

    /// Pending requests of a tenant or of one of its agents, at most `limit`.
    pub async fn pending_to_end(
        &self,
        tenant: &TenantId,
        agent_id: Option<&AgentId>,
        limit: i64,
    ) -> Result<Vec<RequestId>> {
        let agent_id = agent_id.map(AgentId::as_str);
        let rows = self.all(|| sqlx::query_file!("sql/pending_to_end.sql", tenant.as_str(), agent_id, limit)).await?;
        Ok(rows.into_iter().map(|row| row.request_id).collect())
    }
}
