//! Agents and their keys.

use chrono::{DateTime, Utc};

use crate::Scope;
use crate::database::Database;
use relaytrace_domain::{ActionType, ActorKind, AgentId, KeyId, KeyRights, KeyScope, Priority, TenantId};
use relaytrace_domain::{Error, Result};

/// Rows that one statement counts.
const COUNTED_AT_ONCE: i64 = 1_000;
const NO_ROOM: &str = "the tenant has as many agents as its limit lets it have";

/// A key as it is looked up to verify a token. All but the last two never change.
#[derive(Clone, Debug)]
pub struct AgentKey {
    /// The token's `kid`.
    pub key_id: KeyId,
    /// Whose key it is.
    pub agent_id: AgentId,
    /// Whose agent that is.
    pub tenant_id: TenantId,
    /// `EdDSA`, `ES256` or `bearer`.
    pub alg: String,
    /// SubjectPublicKeyInfo, DER; of a bearer key the SHA-256 of its token.
    pub public_key: Vec<u8>,
    /// Which master secret the response secret is derived from.
    pub master_id: String,
    /// The rights of the key.
    pub scopes: Vec<KeyScope>,
    /// With `execute-any`: these agents' permits; `None`: any agent's of its tenant.
    pub execute_agents: Option<Vec<AgentId>>,
    /// With `execute-any`: permits of these action types; `None`: of any.
    pub execute_action_types: Option<Vec<ActionType>>,
    /// From then on it is not accepted.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether a token of it has verified before.
    pub used: bool,
    /// Neither is the key revoked nor its agent disabled.
    pub active: bool,
}

impl AgentKey {
    /// The rights of the key.
    #[must_use]
    pub fn rights(&self) -> KeyRights {
        KeyRights {
            scopes: self.scopes.iter().copied().collect(),
            agents: self.execute_agents.clone(),
            action_types: self.execute_action_types.clone(),
        }
    }
}

/// A key that is to be registered.
#[derive(Clone, Copy, Debug)]
pub struct NewKey<'a> {
    /// Its id.
    pub key_id: &'a KeyId,
    /// Whose key it is.
    pub agent_id: &'a AgentId,
    /// `EdDSA`, `ES256` or `bearer`.
    pub alg: &'a str,
    /// SubjectPublicKeyInfo, DER; of a bearer key the SHA-256 of its token.
    pub public_key: &'a [u8],
    /// Which master secret the response secret is derived from.
    pub master_id: &'a str,
    /// The rights of the key, which never change.
    pub rights: &'a KeyRights,
    /// From then on it is not accepted.
    pub expires_at: Option<DateTime<Utc>>,
}

impl NewKey<'_> {
    fn is(&self, key: &AgentKey) -> bool {
        key.agent_id == *self.agent_id
            && key.alg == self.alg
            && key.public_key == self.public_key
            && key.rights() == *self.rights
            && key.expires_at == self.expires_at
    }
}

/// A key as administrators see it.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// The token's `kid`.
    pub key_id: KeyId,
    /// `EdDSA`, `ES256` or `bearer`.
    pub alg: String,
    /// The rights of the key.
    pub rights: KeyRights,
    /// From then on it is not accepted.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When a token of it first verified.
    pub first_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// An agent as administrators see it.
#[derive(Clone, Debug)]
pub struct AgentRecord {
    /// The agent.
    pub agent_id: AgentId,
    /// For people.
    pub name: String,
    /// `active` or `disabled`.
    pub status: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// Its latest poll, to about 5 seconds.
    pub last_polled_at: Option<DateTime<Utc>>,
    /// Caps of its pending requests.
    pub caps: Caps,
    /// Priority of what it asks by a protocol without priorities; `None`: P2.
    pub default_priority: Option<Priority>,
    /// Where it is pushed to.
    pub push_url: Option<String>,
    /// Its keys, oldest first; empty in a list.
    pub keys: Vec<KeyRecord>,
}

/// Caps of an agent's pending requests; `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Requests.
    pub max_pending: Option<i32>,
    /// Of these with priority P1.
    pub max_pending_p1: Option<i32>,
}

/// The changes to an agent; `None` leaves a member as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct AgentChange<'a> {
    /// For people.
    pub name: Option<&'a str>,
    /// `active` or `disabled`.
    pub status: Option<&'a str>,
    /// `Some(None)` takes the cap away.
    pub max_pending: Option<Option<i32>>,
    /// `Some(None)` takes the cap away.
    pub max_pending_p1: Option<Option<i32>>,
    /// Priority of what it asks by a protocol without priorities.
    pub default_priority: Option<Priority>,
}

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is new.
    Created,
    /// It was there, unchanged; a key's was derived from this master secret.
    Unchanged {
        /// Which master secret.
        master_id: String,
    },
}

impl Database {
    /// The key with this id, revoked or not.
    pub async fn agent_key(&self, key_id: &KeyId) -> Result<Option<AgentKey>> {
        self.optional(|| sqlx::query_file_as!(AgentKey, "sql/agent_key.sql", key_id.as_str(),)).await
    }

    /// Notes that a token of this key has verified: from now on its response secret is not shown again.
    pub async fn mark_key_used(&self, key_id: &KeyId) -> Result<()> {
        self.execute(|| sqlx::query_file!("sql/mark_key_used.sql", key_id.as_str(),)).await?;
        Ok(())
    }

    /// A tenant that is there from now on, if it was not before.
    pub async fn add_tenant(&self, tenant: &TenantId) -> Result<()> {
        self.execute(|| sqlx::query_file!("sql/add_tenant.sql", tenant.as_str())).await?;
        Ok(())
    }

    /// Registers an agent. The same agent with the same name again is no error.
    pub async fn register_agent(&self, scope: &Scope, agent_id: &AgentId, name: &str) -> Result<bool> {
        let created = self
            .execute(|| {
                sqlx::query_file!(
                    "sql/register_agent.sql",
                    agent_id.as_str(),
                    name,
                    scope.tenant.as_str(),
                    self.clock().for_database(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                )
            })
            .await?
            .rows_affected();
        if created == 1 {
            return Ok(true);
        }
        match self.agent(scope, agent_id).await? {
            Some(agent) if agent.name == name => Ok(false),
            Some(_) => Err(Error::Conflict("an agent with this id is registered under another name")),
            None if self.one(|| sqlx::query_file!("sql/agent_taken.sql", agent_id.as_str())).await?.is_taken => {
                Err(Error::Conflict("the agent_id is taken"))
            }
            None => Err(Error::Conflict(NO_ROOM)),
        }
    }

    /// The priority of what an agent asks by a protocol without priorities.
    pub async fn default_priority_of(&self, agent_id: &AgentId) -> Result<Priority> {
        let found = self.optional(|| sqlx::query_file!("sql/default_priority_of.sql", agent_id.as_str())).await?;
        Ok(found.and_then(|found| found.default_priority).unwrap_or(Priority::P2))
    }

    /// Agents in the order of their ids, after `cursor`, at most `limit`.
    pub async fn agents(&self, scope: &Scope, cursor: Option<&str>, limit: i64) -> Result<Vec<AgentRecord>> {
        let rows = self
            .all(|| sqlx::query_file!("sql/agents.sql", cursor.unwrap_or_default(), limit, scope.tenant.as_str()))
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| AgentRecord {
                agent_id: row.agent_id,
                name: row.name,
                status: row.status,
                created_at: row.created_at,
                last_polled_at: row.last_polled_at,
                caps: Caps { max_pending: row.max_pending, max_pending_p1: row.max_pending_p1 },
                default_priority: row.default_priority,
                push_url: row.push_url,
                keys: Vec::new(),
            })
            .collect())
    }

    /// One agent with its keys.
    pub async fn agent(&self, scope: &Scope, agent_id: &AgentId) -> Result<Option<AgentRecord>> {
        let rows = self.all(|| sqlx::query_file!("sql/agent.sql", agent_id.as_str(), scope.tenant.as_str())).await?;
        let mut agent = None;
        for row in rows {
            let agent = agent.get_or_insert(AgentRecord {
                agent_id: row.agent_id,
                name: row.name,
                status: row.status,
                created_at: row.created_at,
                last_polled_at: row.last_polled_at,
                caps: Caps { max_pending: row.max_pending, max_pending_p1: row.max_pending_p1 },
                default_priority: row.default_priority,
                push_url: row.push_url,
                keys: Vec::new(),
            });
            if let (Some(key_id), Some(alg), Some(created_at)) = (row.key_id, row.alg, row.key_created_at) {
                let rights = KeyRights {
                    scopes: row.scopes.unwrap_or_default().into_iter().collect(),
                    agents: row.execute_agents,
                    action_types: row.execute_action_types,
                };
                let (expires_at, first_used_at, revoked_at) = (row.expires_at, row.first_used_at, row.revoked_at);
                agent.keys.push(KeyRecord { key_id, alg, rights, expires_at, created_at, first_used_at, revoked_at });
            }
        }
        Ok(agent)
    }

    /// Changes an agent. `false`: there is no such agent.
    ///
    /// # Errors
    /// [`Error::Conflict`] where it is to be enabled and its tenant has as many agents as it may.
    pub async fn change_agent(&self, scope: &Scope, agent_id: &AgentId, change: AgentChange<'_>) -> Result<bool> {
        let changed = self
            .execute(|| {
                sqlx::query_file!(
                    "sql/change_agent.sql",
                    agent_id.as_str(),
                    change.name,
                    change.status,
                    change.max_pending.is_some(),
                    change.max_pending.flatten(),
                    change.max_pending_p1.is_some(),
                    change.max_pending_p1.flatten(),
                    scope.tenant.as_str(),
                    self.clock().for_database(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                    change.default_priority as Option<Priority>,
                )
            })
            .await?;
        if changed.rows_affected() == 0 {
            let is_enabled = change.status == Some("active");
            return match self.agent(scope, agent_id).await? {
                Some(_) if is_enabled => Err(Error::Conflict(NO_ROOM)),
                _ => Ok(false),
            };
        }
        // After the caps: what is submitted from now on counts itself, and what was under way has ended.
        if change.max_pending.flatten().or(change.max_pending_p1.flatten()).is_some() {
            self.writers_end().await?;
            while self.count_pending(agent_id).await? == COUNTED_AT_ONCE {}
        }
        Ok(true)
    }

    /// Counts a batch of the agent's pending requests for its caps. Returns the number of rows.
    async fn count_pending(&self, agent_id: &AgentId) -> Result<i64> {
        let counted =
            self.one(|| sqlx::query_file!("sql/count_pending.sql", agent_id.as_str(), COUNTED_AT_ONCE)).await?;
        Ok(counted.count)
    }

    /// Registers a key. The same key again is no error before its first use; another key under its id is.
    pub async fn register_key(&self, scope: &Scope, new: &NewKey<'_>) -> Result<Registered> {
        let scopes: Vec<KeyScope> = new.rights.scopes.iter().copied().collect();
        // The agent is looked up in the statement: its absence is an answer here, not a broken foreign key.
        let created = self
            .execute(|| {
                sqlx::query_file!(
                    "sql/register_key.sql",
                    new.key_id.as_str(),
                    new.agent_id.as_str(),
                    new.alg,
                    new.public_key,
                    new.master_id,
                    scope.tenant.as_str(),
                    self.clock().for_database(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                    &scopes as &[KeyScope],
                    new.rights.agents.as_deref() as Option<&[AgentId]>,
                    new.rights.action_types.as_deref() as Option<&[ActionType]>,
                    new.expires_at,
                )
            })
            .await?
            .rows_affected();
        if created == 1 {
            return Ok(Registered::Created);
        }
        if self.agent(scope, new.agent_id).await?.is_none() {
            return Err(Error::NotFound);
        }
        match self.agent_key(new.key_id).await? {
            Some(key) if !new.is(&key) => {
                Err(Error::Conflict("another key is registered under this key_id; a key_id is never reused"))
            }
            Some(key) if key.used => Err(Error::Conflict("this key has been used: its secrets are not shown again")),
            Some(key) if !key.active => Err(Error::Conflict("this key is revoked or its agent disabled")),
            Some(key) => Ok(Registered::Unchanged { master_id: key.master_id }),
            None => Err(Error::NotFound),
        }
    }

    /// Revokes a key for good. `false`: the agent has no such key.
    pub async fn revoke_key(&self, scope: &Scope, agent_id: &AgentId, key_id: &KeyId) -> Result<bool> {
        let revoked = self
            .execute(|| {
                sqlx::query_file!(
                    "sql/revoke_key.sql",
                    key_id.as_str(),
                    agent_id.as_str(),
                    scope.tenant.as_str(),
                    self.clock().for_database(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                )
            })
            .await?;
        Ok(revoked.rows_affected() == 1)
    }
}
