//! Effects of a timeout policy at `respond_by` (product, "Timeout policy").

use deserr::Deserr;

use super::stored::stored_as_text;

/// Effect of a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// The request is rejected.
    #[default]
    #[deserr(rename = "auto_reject")]
    AutoReject,
    /// The request is approved: for one agent and one action type, never P1, only where the deployment allows it.
    #[deserr(rename = "auto_approve")]
    AutoApprove,
    /// One priority up, with that priority's time; at P1 it is rejected.
    #[deserr(rename = "raise")]
    Raise,
}

stored_as_text!(OnTimeout { AutoReject = "auto_reject", AutoApprove = "auto_approve", Raise = "raise" });

/// A part of the sweep that works on requests, one row or a batch at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepPart {
    /// Raises the priority of requests past `respond_by` whose policy raises them.
    Raise,
    /// Decides requests past `respond_by`.
    Expire,
    /// Escalates at a share of the time.
    Escalate,
    /// Dead-letters deliveries that are exhausted.
    DeadLetter,
    /// Notes that the outcome of a used permit is unknown.
    Outcome,
    /// Rejects pending requests that an administrator's stop covers.
    Stop,
}

impl SweepPart {
    /// All parts, in the order of a sweep. Stops come first: requests that they cover are not raised or escalated.
    pub const ALL: [Self; 6] = [Self::Stop, Self::Raise, Self::Expire, Self::Escalate, Self::DeadLetter, Self::Outcome];
}

stored_as_text!(SweepPart {
    Raise = "raise",
    Expire = "expire",
    Escalate = "escalate",
    DeadLetter = "dead_letter",
    Outcome = "outcome",
    Stop = "stop",
});
