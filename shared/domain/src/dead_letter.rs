//! Dead letters: what kinds there are, and what became of them.

use super::ids::InvalidText;
use super::stored::stored_as_text;

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterKind {
    /// A decision could not be delivered to its agent.
    Delivery,
    /// An event could not be published.
    Event,
    /// An item of a sweep could not be done.
    Sweep,
    /// A channel or an agent's push could not be told.
    Notification,
}

stored_as_text!(DeadLetterKind {
    Delivery = "delivery",
    Event = "event",
    Sweep = "sweep",
    Notification = "notification",
});

impl std::str::FromStr for DeadLetterKind {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        [Self::Delivery, Self::Event, Self::Sweep, Self::Notification]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(InvalidText("must be delivery, event, sweep or notification"))
    }
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Its agent accepted the decision after all.
    Acknowledged,
    /// An administrator had it tried again.
    Retried,
    /// An administrator gave it up.
    Discarded,
}

stored_as_text!(Resolution { Acknowledged = "acknowledged", Retried = "retried", Discarded = "discarded" });
