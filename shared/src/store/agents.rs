//! Agents and their keys.

use chrono::{DateTime, Utc};

use super::Store;
use super::pool::run;
use crate::domain::{AgentId, KeyId};
use crate::error::{Error, Result};

/// A key as it is looked up to verify a token. All but the last two never change.
#[derive(Clone, Debug)]
pub struct AgentKey {
    /// The token's `kid`.
    pub key_id: KeyId,
    /// Whose key it is.
    pub agent_id: AgentId,
    /// `EdDSA` or `ES256`.
    pub alg: String,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// Which master secret the response secret is derived from.
    pub master_id: String,
    /// Whether a token of it has verified before.
    pub used: bool,
    /// Neither is the key revoked nor its agent disabled.
    pub active: bool,
}

/// A key as administrators see it.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// The token's `kid`.
    pub key_id: KeyId,
    /// `EdDSA` or `ES256`.
    pub alg: String,
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
    /// Its keys, oldest first; empty in a list.
    pub keys: Vec<KeyRecord>,
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

impl Store {
    /// The key with this id, revoked or not.
    pub async fn agent_key(&self, key_id: &KeyId) -> Result<Option<AgentKey>> {
        run!(self, connection => sqlx::query_as!(
                AgentKey,
                r#"SELECT k.key_id AS "key_id: KeyId", k.agent_id AS "agent_id: AgentId", k.alg, k.public_key, k.master_id,
                       k.first_used_at IS NOT NULL AS "used!",
                       k.revoked_at IS NULL AND a.status = 'active' AS "active!"
                FROM agent_keys k JOIN agents a USING (agent_id)
                WHERE k.key_id = $1"#,
                key_id.as_str(),
            )
            .fetch_optional(connection))
    }

    /// Notes that a token of this key has verified: from now on its response secret is not shown again.
    pub async fn mark_key_used(&self, key_id: &KeyId) -> Result<()> {
        run!(self, connection => sqlx::query!(
                "UPDATE agent_keys SET first_used_at = now() WHERE key_id = $1 AND first_used_at IS NULL",
                key_id.as_str(),
            )
            .execute(connection))?;
        Ok(())
    }

    /// Registers an agent. The same agent with the same name again is no error.
    pub async fn register_agent(&self, agent_id: &AgentId, name: &str) -> Result<bool> {
        let created = run!(self, connection => sqlx::query!(
                    "INSERT INTO agents (agent_id, name) VALUES ($1, $2) ON CONFLICT (agent_id) DO NOTHING",
                    agent_id.as_str(),
                    name,
                )
                .execute(connection))?
        .rows_affected();
        if created == 1 {
            return Ok(true);
        }
        match self.agent(agent_id).await? {
            Some(agent) if agent.name == name => Ok(false),
            _ => Err(Error::Conflict("an agent with this id is registered under another name")),
        }
    }

    /// Agents in the order of their ids, after `cursor`, at most `limit`.
    pub async fn agents(&self, cursor: Option<&str>, limit: i64) -> Result<Vec<AgentRecord>> {
        let rows = run!(self, connection => sqlx::query!(
                    r#"SELECT a.agent_id AS "agent_id: AgentId", a.name, a.status, a.created_at,
                           p.last_polled_at AS "last_polled_at?"
                    FROM agents a LEFT JOIN agent_polls p USING (agent_id)
                    WHERE a.agent_id > $1 ORDER BY a.agent_id LIMIT $2"#,
                    cursor.unwrap_or_default(),
                    limit,
                )
                .fetch_all(connection))?;
        Ok(rows
            .into_iter()
            .map(|row| AgentRecord {
                agent_id: row.agent_id,
                name: row.name,
                status: row.status,
                created_at: row.created_at,
                last_polled_at: row.last_polled_at,
                keys: Vec::new(),
            })
            .collect())
    }

    /// One agent with its keys.
    pub async fn agent(&self, agent_id: &AgentId) -> Result<Option<AgentRecord>> {
        let rows = run!(self, connection => sqlx::query!(
                    r#"SELECT a.agent_id AS "agent_id: AgentId", a.name, a.status, a.created_at,
                           p.last_polled_at AS "last_polled_at?",
                           k.key_id AS "key_id?: KeyId", k.alg AS "alg?", k.created_at AS "key_created_at?",
                           k.first_used_at AS "first_used_at?", k.revoked_at AS "revoked_at?"
                    FROM agents a
                    LEFT JOIN agent_polls p USING (agent_id)
                    LEFT JOIN agent_keys k USING (agent_id)
                    WHERE a.agent_id = $1 ORDER BY k.created_at, k.key_id"#,
                    agent_id.as_str(),
                )
                .fetch_all(connection))?;
        let mut agent = None;
        for row in rows {
            let agent = agent.get_or_insert(AgentRecord {
                agent_id: row.agent_id,
                name: row.name,
                status: row.status,
                created_at: row.created_at,
                last_polled_at: row.last_polled_at,
                keys: Vec::new(),
            });
            if let (Some(key_id), Some(alg), Some(created_at)) = (row.key_id, row.alg, row.key_created_at) {
                let (first_used_at, revoked_at) = (row.first_used_at, row.revoked_at);
                agent.keys.push(KeyRecord { key_id, alg, created_at, first_used_at, revoked_at });
            }
        }
        Ok(agent)
    }

    /// Changes an agent's name, status or both. `false`: there is no such agent.
    pub async fn change_agent(&self, agent_id: &AgentId, name: Option<&str>, status: Option<&str>) -> Result<bool> {
        let changed = run!(self, connection => sqlx::query!(
                    "UPDATE agents SET name = COALESCE($2, name), status = COALESCE($3, status) WHERE agent_id = $1",
                    agent_id.as_str(),
                    name,
                    status,
                )
                .execute(connection))?;
        Ok(changed.rows_affected() == 1)
    }

    /// Registers a key. The same key again is no error before its first use; another key under its id is.
    pub async fn register_key(
        &self,
        agent_id: &AgentId,
        key_id: &KeyId,
        alg: &str,
        public_key: &[u8],
        master_id: &str,
    ) -> Result<Registered> {
        // The agent is looked up in the statement: its absence is an answer here, not a broken foreign key.
        let created = run!(self, connection => sqlx::query!(
                    "INSERT INTO agent_keys (key_id, agent_id, alg, public_key, master_id)
                    SELECT $1, a.agent_id, $3, $4, $5 FROM agents a WHERE a.agent_id = $2
                    ON CONFLICT (key_id) DO NOTHING",
                    key_id.as_str(),
                    agent_id.as_str(),
                    alg,
                    public_key,
                    master_id,
                )
                .execute(connection))?
        .rows_affected();
        if created == 1 {
            return Ok(Registered::Created);
        }
        if self.agent(agent_id).await?.is_none() {
            return Err(Error::NotFound);
        }
        match self.agent_key(key_id).await? {
            Some(key) if key.agent_id != *agent_id || key.alg != alg || key.public_key != public_key => {
                Err(Error::Conflict("another key is registered under this key_id; a key_id is never reused"))
            }
            Some(key) if key.used => {
                Err(Error::Conflict("this key has been used: its response secret is not shown again"))
            }
            Some(key) if !key.active => Err(Error::Conflict("this key is revoked or its agent disabled")),
            Some(key) => Ok(Registered::Unchanged { master_id: key.master_id }),
            None => Err(Error::NotFound),
        }
    }

    /// Revokes a key for good. `false`: the agent has no such key.
    pub async fn revoke_key(&self, agent_id: &AgentId, key_id: &KeyId) -> Result<bool> {
        let revoked = run!(self, connection => sqlx::query!(
                    "UPDATE agent_keys SET revoked_at = COALESCE(revoked_at, now()) WHERE key_id = $1 AND agent_id = $2",
                    key_id.as_str(),
                    agent_id.as_str(),
                )
                .execute(connection))?;
        Ok(revoked.rows_affected() == 1)
    }
}
