//! What bridges of others' protocols keep beside requests (contract, "Bridges").

use chrono::{DateTime, Utc};

use crate::Caller;
use crate::database::Database;
use relaytrace_domain::{ClientRequestKey, DeliveryState, Digest, Error, Protocol, RequestId, Result};

/// What a bridge tells of a request beside its decision.
#[derive(Clone, Debug)]
pub struct BridgedRequest {
    /// The exact bytes of the `submitted` entry.
    pub submitted: Vec<u8>,
    /// The body as it was received; `None`: erased.
    pub envelope: Option<Vec<u8>>,
    /// Where the decision's delivery is; `None`: not decided.
    pub delivery_state: Option<DeliveryState>,
    /// When the approval was used.
    pub consumed_at: Option<DateTime<Utc>>,
    /// The exact bytes of the newest `outcome` entry.
    pub outcome: Option<Vec<u8>>,
}

/// A harness's call of a tool.
#[derive(Clone, Copy, Debug)]
pub struct HookCall<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// The call's own key.
    pub key: &'a ClientRequestKey,
    /// The harness's session.
    pub session_id: &'a str,
    /// The tool and its input.
    pub action_digest: Digest,
}

impl Database {
    /// What a bridge tells of a request of its protocol.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the agent has no such request of this protocol, or its key is no longer active.
    pub async fn bridged(&self, caller: &Caller, request_id: RequestId, protocol: Protocol) -> Result<BridgedRequest> {
        let found = self
            .optional(|| {
                sqlx::query_file_as!(
                    BridgedRequest,
                    "sql/bridged.sql",
                    caller.key_id.as_str(),
                    caller.agent_id.as_str(),
                    request_id.0,
                    protocol.as_str(),
                )
            })
            .await?;
        found.ok_or(Error::NotFound)
    }

    /// The request that a harness's call is about, if there is one; from now on it is waited for.
    ///
    /// # Errors
    /// [`Error::IdempotencyKeyReused`] where the call's key stands for another action, [`Error::Unauthenticated`] where the
    /// key or agent is no longer active.
    pub async fn continue_hook(&self, call: HookCall<'_>, kept_seconds: f64) -> Result<Option<RequestId>> {
        let found = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/continue_hook.sql",
                    self.clock().for_database(),
                    call.caller.key_id.as_str(),
                    call.caller.agent_id.as_str(),
                    call.key.as_str(),
                    call.session_id,
                    call.action_digest.0.as_slice(),
                    kept_seconds,
                )
            })
            .await?
            .ok_or(Error::Unauthenticated("the key is revoked or its agent disabled"))?;
        let is_same = found.fingerprint.as_deref() == Some(call.action_digest.0.as_slice());
        match found.standing {
            Some(request_id) if is_same => Ok(Some(request_id)),
            Some(_) => Err(Error::IdempotencyKeyReused),
            None => Ok(found.continued),
        }
    }

    /// Notes that the harness of this call is told to wait: the next call that asks the same goes on with the request.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active.
    pub async fn note_hook_wait(&self, call: HookCall<'_>, request_id: RequestId) -> Result<()> {
        let noted = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/note_hook_wait.sql",
                    self.clock().for_database(),
                    call.caller.key_id.as_str(),
                    call.caller.agent_id.as_str(),
                    call.session_id,
                    call.action_digest.0.as_slice(),
                    request_id.0,
                )
            })
            .await?;
        noted.map(|_| ()).ok_or(Error::Unauthenticated("the key is revoked or its agent disabled"))
    }
}
