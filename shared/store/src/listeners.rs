//! Those who are told: channels of people, and agents that are pushed to (contract, "Channels", "Agents' push").

use chrono::{DateTime, Utc};
use relaytrace_domain::{ActorKind, AgentId, ChannelId, ChannelKind, ChannelMatch, Error, Notice, Result};
use uuid::Uuid;

use crate::Scope;
use crate::database::Database;

/// Channels that a tenant may have.
const MOST_CHANNELS: i64 = 100;
/// The kind of the event that an agent's push is told after.
const PUSHED: &str = "decided";

/// A channel that is to be set.
#[derive(Clone, Debug)]
pub struct NewChannel {
    /// How it reaches people.
    pub kind: ChannelKind,
    /// What administrators see of its configuration, JSON.
    pub config: String,
    /// Its secret, encrypted; `None`: it has none.
    pub sealed: Option<Vec<u8>>,
    /// What it tells of.
    pub notices: Vec<Notice>,
    /// Which requests; `None`: all.
    pub matching: Option<ChannelMatch>,
}

/// A stored channel.
#[derive(Clone, Debug)]
pub struct ChannelRecord {
    /// The administrator's own name of it.
    pub channel_id: ChannelId,
    /// How it reaches people.
    pub kind: ChannelKind,
    /// What administrators see of its configuration, JSON.
    pub config: String,
    /// Its secret, encrypted.
    pub sealed: Option<Vec<u8>>,
    /// What it tells of.
    pub notices: Vec<Notice>,
    /// Which requests, JSON; `None`: all.
    pub matching: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last set.
    pub updated_at: DateTime<Utc>,
    /// The administrator who did.
    pub updated_by: String,
}

/// An agent's push.
#[derive(Clone, Debug, Default)]
pub struct PushRecord {
    /// Where it goes; `None`: it is off.
    pub url: Option<String>,
    /// Its secrets, encrypted.
    pub sealed: Option<Vec<u8>>,
}

impl Database {
    /// Channels of the caller's tenant after this name, in the order of their names.
    pub async fn channels(&self, scope: &Scope, after: Option<&str>, limit: i64) -> Result<Vec<ChannelRecord>> {
        self.channels_named(scope, None, after.unwrap_or_default(), limit).await
    }

    /// One channel.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn channel(&self, scope: &Scope, channel_id: &ChannelId) -> Result<ChannelRecord> {
        self.channels_named(scope, Some(channel_id), "", 1).await?.pop().ok_or(Error::NotFound)
    }

    async fn channels_named(
        &self,
        scope: &Scope,
        name: Option<&ChannelId>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<ChannelRecord>> {
        self.all(|| {
            sqlx::query_file_as!(
                ChannelRecord,
                "sql/channels.sql",
                scope.tenant.as_str(),
                name.map(ChannelId::as_str),
                after,
                limit,
            )
        })
        .await
    }

    /// Makes a channel or changes it.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the tenant has as many as it may have.
    pub async fn set_channel(&self, scope: &Scope, channel_id: &ChannelId, new: &NewChannel) -> Result<ChannelRecord> {
        let mut event_kinds: Vec<_> = new.notices.iter().map(|notice| notice.event_kind().to_owned()).collect();
        event_kinds.sort();
        event_kinds.dedup();
        let matching = new.matching.as_ref().map(serde_json::to_string).transpose().map_err(Error::internal)?;
        let set = self
            .optional(|| {
                sqlx::query_file_as!(
                    ChannelRecord,
                    "sql/set_channel.sql",
                    self.clock().for_database(),
                    scope.tenant.as_str(),
                    channel_id.as_str(),
                    new.kind as ChannelKind,
                    &new.config,
                    new.sealed.as_deref(),
                    &event_kinds,
                    &new.notices as &[Notice],
                    matching.as_deref(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                    MOST_CHANNELS,
                )
            })
            .await?;
        set.ok_or(Error::Conflict("there are 100 channels already"))
    }

    /// Removes a channel. Removing it again is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there never was one of this name.
    pub async fn remove_channel(&self, scope: &Scope, channel_id: &ChannelId) -> Result<()> {
        let standing = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/remove_channel.sql",
                    self.clock().for_database(),
                    scope.tenant.as_str(),
                    channel_id.as_str(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                )
            })
            .await?;
        standing.map(drop).ok_or(Error::NotFound)
    }

    /// An agent's push: off and without secrets where none were ever made.
    pub async fn push_of(&self, scope: &Scope, agent_id: &AgentId) -> Result<PushRecord> {
        let found = self
            .optional(|| sqlx::query_file_as!(PushRecord, "sql/push_of.sql", agent_id.as_str(), scope.tenant.as_str()))
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Sets an agent's push where its secrets are still those of `read`: `sealed` are the new ones, `url` the new address,
    /// if it changes. `false`: others have changed them meanwhile, or there is no such agent.
    pub async fn set_push(
        &self,
        scope: &Scope,
        agent_id: &AgentId,
        read: &PushRecord,
        sealed: &[u8],
        url: Option<Option<&str>>,
    ) -> Result<bool> {
        let set = self
            .execute(|| {
                sqlx::query_file!(
                    "sql/set_push.sql",
                    self.clock().for_database(),
                    scope.tenant.as_str(),
                    agent_id.as_str(),
                    read.sealed.as_deref(),
                    sealed,
                    url.is_some(),
                    url.flatten(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                    &[PUSHED.to_owned()],
                )
            })
            .await?;
        Ok(set.rows_affected() == 1)
    }

    /// Tells an agent's receiver, an instance's or a browser nothing any more, because it is gone; nothing where it is not what
    /// `config` says any more.
    pub async fn end_push(&self, listener_id: Uuid, config: &str) -> Result<()> {
        self.execute(|| sqlx::query_file!("sql/end_push.sql", self.clock().for_database(), listener_id, config))
            .await?;
        Ok(())
    }
}
