//! Exit codes, and what each failure of a call means as one.

use std::process::ExitCode;

use relaytrace_client::{Error, Why};

use crate::terminal::{err, safe};

/// A command's end: what is wrong, in words, and its exit code.
#[derive(Debug)]
pub struct Fault {
    /// For people, without a line end.
    pub said: String,
    /// The process's exit code.
    pub code: u8,
}

/// What a command ends with.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// It did not work: refused, or found wanting.
pub const FAILED: u8 = 1;
/// `EX_USAGE` of sysexits.h: arguments or configuration are wrong.
pub const USAGE: u8 = 64;
/// `EX_UNAVAILABLE` of sysexits.h: no answer that counts could be had.
pub const UNREACHABLE: u8 = 69;

/// Exit codes for the ends of a question.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// A person, an administrator or a rule said no, or the approval cannot be used.
    pub rejected: u8,
    /// Nobody answered in time.
    pub timed_out: u8,
    /// The question was withdrawn.
    pub cancelled: u8,
    /// Answered by a value.
    pub answered: u8,
}

impl Codes {
    /// Of `ask`.
    pub const ASK: Self = Self { rejected: 1, timed_out: 2, cancelled: 3, answered: 4 };
    /// Of `run`: beside those of the command that it runs.
    pub const RUN: Self = Self { rejected: 77, timed_out: 75, cancelled: 76, answered: 77 };

    /// The code of this reason.
    pub fn of(self, why: &Why) -> u8 {
        match why {
            Why::TimedOut | Why::StillPending { .. } => self.timed_out,
            Why::Cancelled { .. } => self.cancelled,
            Why::Responded(_) => self.answered,
            _ => self.rejected,
        }
    }
}

impl Fault {
    /// Wrong arguments or configuration.
    pub fn usage(said: impl Into<String>) -> Self {
        Self { said: said.into(), code: USAGE }
    }

    /// It did not work.
    pub fn failed(said: impl Into<String>) -> Self {
        Self { said: said.into(), code: FAILED }
    }

    /// No answer that counts.
    pub fn unreachable(said: impl Into<String>) -> Self {
        Self { said: said.into(), code: UNREACHABLE }
    }

    /// Of a call, with the codes of its command.
    pub fn of(error: &Error, codes: Codes) -> Self {
        let code = match error {
            Error::NotApproved(not_approved) => codes.of(&not_approved.why),
            Error::Configuration(_) => USAGE,
            Error::Refused(problem) if problem.status == 422 => USAGE,
            Error::OtherAnswer { .. } => codes.rejected,
            _ => UNREACHABLE,
        };
        let faults = match error {
            Error::Refused(problem) => problem.errors.as_slice(),
            _ => &[],
        };
        let said = faults.iter().fold(error.to_string(), |said, fault| {
            let pointer = if fault.pointer.is_empty() { "the body" } else { &fault.pointer };
            format!("{said}\n  {pointer}: {}", fault.detail)
        });
        Self { said, code }
    }

    /// Says it on standard error; gives the exit code.
    pub fn report(&self, command: &str) -> ExitCode {
        err!("relaytrace {command}: {}", safe(&self.said));
        ExitCode::from(self.code)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::of(&error, Codes::ASK)
    }
}
