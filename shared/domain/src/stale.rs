//! Why something is stale.

use serde::{Deserialize, Serialize};

use super::stored::stored_as_text;

/// Why an administrator should look at something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StaleReason {
    /// Most of a pending request's time is over.
    Pending,
    /// Nobody acknowledges a delivery.
    Unacknowledged,
    /// A dead letter is open.
    DeadLettered,
    /// An agent stopped polling while a decision waits for it.
    NotPolling,
    /// An approval was used, and no outcome was reported in time.
    OutcomeUnknown,
}

stored_as_text!(StaleReason {
    Pending = "pending",
    Unacknowledged = "unacknowledged",
    DeadLettered = "dead_lettered",
    NotPolling = "not_polling",
    OutcomeUnknown = "outcome_unknown",
});
