//! The kinds of calls that are measured.

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

    /// The least part of pgbench's rate that the service must reach with so many connections.
    pub fn bound(self, connections: usize) -> Option<f64> {
        // One connection measures a way there and back, not what the service can do.
        if connections < 32 {
            return None;
        }
        Some(match self {
            Self::Submit if connections >= 128 => 1.2,
            Self::Submit | Self::Acknowledge => 1.0,
            Self::Decide => 0.5,
            Self::EmptyPoll => 0.3,
            Self::Poll => 0.2,
        })
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
