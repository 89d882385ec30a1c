//! What is measured.

use super::Part;
use super::rows::{ASKERS, Group, IDLERS, POLLERS};

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Submit,
    Decide,
    Poll,
    Acknowledge,
    EmptyPoll,
}

impl Kind {
    /// In the order of measuring: each may take rows of its own for granted, none those of another.
    pub const ALL: [Self; 5] = [Self::Submit, Self::Decide, Self::Poll, Self::Acknowledge, Self::EmptyPoll];

    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Decide => "decide",
            Self::Poll => "one-row poll",
            Self::Acknowledge => "acknowledge",
            Self::EmptyPoll => "empty poll",
        }
    }

    /// The least part of pgbench's rate that the service must reach.
    pub fn bound(self) -> Option<f64> {
        match self {
            Self::Submit => Some(0.45),
            Self::Decide => Some(0.4),
            Self::Poll => Some(0.2),
            Self::Acknowledge | Self::EmptyPoll => None,
        }
    }

    /// How fast pgbench may be, as a multiple of what it submits: a guess for the rows to prepare the first time.
    pub fn pace(self) -> f64 {
        match self {
            Self::Submit | Self::EmptyPoll => 0.0,
            Self::Decide | Self::Acknowledge => 1.2,
            Self::Poll => 2.5,
        }
    }

    /// The agents that are called for, or that call.
    pub fn group(self) -> Group {
        match self {
            Self::Submit | Self::Decide | Self::Acknowledge => ASKERS,
            Self::Poll => POLLERS,
            Self::EmptyPoll => IDLERS,
        }
    }

    /// As it is asked for.
    pub fn part(self) -> Part {
        match self {
            Self::Submit => Part::Submit,
            Self::Decide => Part::Decide,
            Self::Poll => Part::Poll,
            Self::Acknowledge => Part::Acknowledge,
            Self::EmptyPoll => Part::EmptyPoll,
        }
    }
}
