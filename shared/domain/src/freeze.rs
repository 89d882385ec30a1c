//! Freezes: an administrator prevents approvals and their use for a time (contract, "Freezes").

use deserr::Deserr;
use serde::Serialize;

use super::stored::stored_as_text;

/// What a freeze keeps from being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[deserr(rename_all = lowercase)]
pub enum FreezeMode {
    /// Until it ends nothing is used, and nothing approved but by a person.
    Hold,
    /// Until it ends nothing is approved or used; what was approved before is revoked for ever, and what is pending rejected.
    Stop,
}

stored_as_text!(FreezeMode { Hold = "hold", Stop = "stop" });
