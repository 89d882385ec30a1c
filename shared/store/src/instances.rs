//! Instances of the Agent Approval Protocol: keys that an agent makes for itself (contract, "Instances").

use chrono::{DateTime, Utc};
use relaytrace_domain::{Digest, Error, KeyId, Result};

use crate::Caller;
use crate::database::Database;

/// Instances of an agent that are not revoked, at the most.
const MOST_INSTANCES: i64 = 1_000;

/// An instance that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewInstance<'a> {
    /// Its id, which is its key's.
    pub key_id: &'a KeyId,
    /// SHA-256 of its token.
    pub token_digest: &'a [u8],
    /// Which master secret the response secret is derived from.
    pub master_id: &'a str,
    /// For people.
    pub name: &'a str,
    /// Of the body that asks for it.
    pub fingerprint: Digest,
    /// Its receiver, as stored (JSON), and the sealed secret; `None`: it looks.
    pub receiver: Option<(&'a str, &'a [u8])>,
}

/// An instance that was made before.
#[derive(Clone, Debug)]
pub struct InstanceRecord {
    /// For people.
    pub name: String,
    /// Of the body that asked for it.
    pub fingerprint: Vec<u8>,
    /// Its token was used, and is not told again.
    pub is_used: bool,
    /// Its key is not revoked, and not expired.
    pub is_active: bool,
    /// When its key ends; `None`: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An instance that there is.
#[derive(Clone, Debug)]
pub enum Provisioned {
    /// This call has made it.
    Now {
        /// When its key ends; `None`: never.
        expires_at: Option<DateTime<Utc>>,
    },
    /// Another one made it meanwhile.
    Before(InstanceRecord),
}

impl Database {
    /// Makes an instance of the caller's agent: a bearer key that asks and uses, and its receiver. Its key ends when the
    /// caller's does: so it is as it was made, or, where others have made it meanwhile, as they did.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the agent has as many as it may, or another's key has the id.
    pub async fn provision(&self, caller: &Caller, new: &NewInstance<'_>) -> Result<Provisioned> {
        let made = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/provision.sql",
                    self.clock().for_database(),
                    new.key_id.as_str(),
                    caller.agent_id.as_str(),
                    new.token_digest,
                    new.master_id,
                    caller.key_id.as_str(),
                    new.name,
                    &new.fingerprint.0[..],
                    new.receiver.map(|(config, _)| config),
                    new.receiver.map(|(_, sealed)| sealed),
                    MOST_INSTANCES,
                )
            })
            .await?;
        match made {
            Some(made) => Ok(Provisioned::Now { expires_at: made.expires_at }),
            None => match self.instance(caller, new.key_id).await? {
                Some(before) => Ok(Provisioned::Before(before)),
                None => Err(Error::Conflict("the agent has as many instances as it may have")),
            },
        }
    }

    /// An instance of the caller's agent, if there is one of this id.
    pub async fn instance(&self, caller: &Caller, key_id: &KeyId) -> Result<Option<InstanceRecord>> {
        self.optional(|| {
            sqlx::query_file_as!(
                InstanceRecord,
                "sql/instance.sql",
                key_id.as_str(),
                caller.agent_id.as_str(),
                caller.key_id.as_str(),
            )
        })
        .await
    }
}
