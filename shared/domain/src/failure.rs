//! All failures and their handling, in one table: of answers, statements, deliveries, the sweep and the publisher.
//! `docs/errors.md` is printed from it.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

use strum::{EnumIter, EnumMessage, IntoEnumIterator as _};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What failed. The first group is what a caller is told; the second stays inside. A variant's comment is its line in
/// the printed table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, EnumMessage)]
pub enum Failure {
    /// The body is no JSON, empty, not UTF-8, or has duplicate members
    MalformedJson,
    /// The token is missing or not valid
    Unauthenticated,
    /// The caller is known and may not do this
    Forbidden,
    /// It does not exist, or the caller may not know that it does
    NotFound,
    /// The resource does not know this method
    MethodNotAllowed,
    /// Another decision stands
    AlreadyDecided,
    /// The time to respond is over
    Expired,
    /// The operator saw another action
    ActionMismatch,
    /// The operator is the person for whom the agent acts, and may not approve it
    OwnRequest,
    /// The request is assigned to others, or no delegation stands
    NotAssigned,
    /// The operator's approval is on record already, in other words
    AlreadyVoted,
    /// The delivery was handed out again since
    StaleDelivery,
    /// There is no approval that may be used
    NotApproved,
    /// The approval was used already
    AlreadyConsumed,
    /// The approval was revoked by a stop
    PermitRevoked,
    /// An administrator has frozen it for now
    Frozen,
    /// The approval was not used in time
    PermitExpired,
    /// The approval was not used yet
    NotConsumed,
    /// Another outcome is on record
    OutcomeConflict,
    /// The change does not say which version it is based on
    VersionRequired,
    /// Another version stands than the change is based on
    VersionChanged,
    /// The state does not allow it
    Conflict,
    /// The body is longer than this route takes
    PayloadTooLarge,
    /// The body is not declared as JSON
    UnsupportedMediaType,
    /// Members, parameters or headers are not as they must be
    ValidationFailed,
    /// The key stands for another envelope
    IdempotencyKeyReused,
    /// The agent has as many requests pending, or as many calls that wait, as it may have
    RateLimited,
    /// A fault of ours
    Internal,
    /// Postgres is away, its connections are all in use, a statement took longer than 2 s, or a freeze waits for calls that
    /// began before it
    Unavailable,
    /// A caller has lost its connection before the answer
    ConnectionLost,

    /// A statement lost against another: serialization failure or deadlock
    StatementConflict,
    /// A delivery's lease ended without an acknowledgement
    DeliveryUnacknowledged,
    /// The agent answered `retry`
    DeliveryRetried,
    /// The agent answered `failed`
    DeliveryFailed,
    /// A part of a sweep could not reach Postgres
    SweepPart,
    /// A sweep's item failed by itself
    SweepItem,
    /// A batch of a replay failed
    ReplayBatch,
    /// NATS did not answer
    EventUnreached,
    /// The stream refused an event
    EventRefused,
    /// An event is longer than the server takes
    EventTooLong,
    /// A channel, or an agent's push, did not take what it was told
    Notification,
}

/// What a caller is told (contract, "Errors").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The last part of the problem's type.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// The problem's title.
    pub title: &'static str,
}

/// Who tries the same thing again, when, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Who.
    pub by: &'static str,
    /// How long after the failure.
    pub pause: Pause,
    /// Tries in all, the first included.
    pub most: Most,
}

/// How long to wait for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// As long as this.
    Of(Duration),
    /// Any time up to this, so that callers that failed together do not retry together.
    Jitter(Duration),
    /// Any time up to `first`, which doubles with each failure until it is `longest`.
    Doubling {
        /// After the first failure.
        first: Duration,
        /// However many there were.
        longest: Duration,
    },
    /// As long as this for each failure so far.
    Growing(Duration),
    /// Until the next sweep.
    Sweep,
}

/// How many tries there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// Until it works.
    Any,
    /// So many.
    Times(u32),
    /// As configured: by these variables.
    Configured(&'static str),
}

impl Failure {
    /// All of them, as declared.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// The answer to a caller; `None`: no caller waits for one.
    #[must_use]
    pub const fn answer(self) -> Option<Answer> {
        let (code, status, title) = match self {
            Self::MalformedJson => ("malformed-json", 400, "Malformed JSON"),
            Self::Unauthenticated => ("unauthenticated", 401, "Not authenticated"),
            Self::Forbidden => ("forbidden", 403, "Forbidden"),
            Self::NotFound => ("not-found", 404, "Not found"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "Method not allowed"),
            Self::AlreadyDecided => ("already-decided", 409, "Already decided"),
            Self::Expired => ("expired", 409, "Expired"),
            Self::ActionMismatch => ("action-mismatch", 409, "Another action"),
            Self::OwnRequest => ("own-request", 403, "Own request"),
            Self::NotAssigned => ("not-assigned", 403, "Not assigned"),
            Self::AlreadyVoted => ("already-voted", 409, "Already voted"),
            Self::StaleDelivery => ("stale-delivery", 409, "Stale delivery"),
            Self::NotApproved => ("not-approved", 409, "Not approved"),
            Self::AlreadyConsumed => ("already-consumed", 409, "Already consumed"),
            Self::PermitRevoked => ("permit-revoked", 409, "Permit revoked"),
            Self::Frozen => ("frozen", 409, "Frozen"),
            Self::PermitExpired => ("permit-expired", 409, "Permit expired"),
            Self::NotConsumed => ("not-consumed", 409, "Not consumed"),
            Self::OutcomeConflict => ("outcome-conflict", 409, "Another outcome"),
            Self::VersionRequired => ("version-required", 428, "Version required"),
            Self::VersionChanged => ("version-changed", 412, "Version changed"),
            Self::Conflict => ("conflict", 409, "Conflict"),
            Self::PayloadTooLarge => ("payload-too-large", 413, "Payload too large"),
            Self::UnsupportedMediaType => ("unsupported-media-type", 415, "Unsupported media type"),
            Self::ValidationFailed => ("validation-failed", 422, "Validation failed"),
            Self::IdempotencyKeyReused => ("idempotency-key-reused", 422, "Idempotency key reused"),
            Self::RateLimited => ("rate-limited", 429, "Rate limited"),
            Self::Internal => ("internal", 500, "Internal error"),
            Self::Unavailable => ("unavailable", 503, "Unavailable"),
            Self::ConnectionLost
            | Self::StatementConflict
            | Self::DeliveryUnacknowledged
            | Self::DeliveryRetried
            | Self::DeliveryFailed
            | Self::SweepPart
            | Self::SweepItem
            | Self::ReplayBatch
            | Self::EventUnreached
            | Self::EventRefused
            | Self::EventTooLong
            | Self::Notification => return None,
        };
        Some(Answer { code, status, title })
    }

    /// Who tries it again; `None`: the same thing would fail again.
    #[must_use]
    pub const fn retry(self) -> Option<Retry> {
        let (by, pause, most) = match self {
            Self::MalformedJson
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::AlreadyDecided
            | Self::Expired
            | Self::ActionMismatch
            | Self::OwnRequest
            | Self::NotAssigned
            | Self::AlreadyVoted
            | Self::StaleDelivery
            | Self::NotApproved
            | Self::AlreadyConsumed
            | Self::PermitRevoked
            | Self::PermitExpired
            | Self::NotConsumed
            | Self::OutcomeConflict
            | Self::VersionRequired
            | Self::VersionChanged
            | Self::Conflict
            | Self::PayloadTooLarge
            | Self::UnsupportedMediaType
            | Self::ValidationFailed
            | Self::IdempotencyKeyReused
            | Self::Internal
            | Self::DeliveryFailed
            | Self::EventTooLong => return None,
            // An administrator ends it, or its time does.
            Self::Frozen => ("the caller", Pause::Of(ms(30_000)), Most::Any),
            // A place is free when a person has decided, so there is no hurry.
            Self::RateLimited => ("the caller", Pause::Of(ms(10_000)), Most::Any),
            Self::Unavailable => ("the caller", Pause::Of(ms(1_000)), Most::Any),
            Self::ConnectionLost => ("the caller", Pause::Of(ms(0)), Most::Any),
            Self::StatementConflict => ("the same call", Pause::Jitter(ms(20)), Most::Times(4)),
            Self::DeliveryUnacknowledged | Self::DeliveryRetried => (
                "the agent's next poll",
                Pause::Doubling { first: ms(1_000), longest: ms(300_000) },
                Most::Configured("`DELIVERY_MAX_ATTEMPTS` tries within `DELIVERY_MAX_AGE_SECONDS`"),
            ),
            Self::Notification => {
                ("notify", Pause::Doubling { first: ms(1_000), longest: ms(300_000) }, Most::Configured("for 24 hours"))
            }
            Self::SweepPart | Self::EventUnreached => ("the sweep", Pause::Sweep, Most::Any),
            Self::SweepItem => ("the sweep", Pause::Growing(ms(60_000)), Most::Times(3)),
            Self::ReplayBatch => ("the sweep", Pause::Growing(ms(60_000)), Most::Times(5)),
            Self::EventRefused => ("the sweep", Pause::Growing(ms(30_000)), Most::Times(10)),
        };
        Some(Retry { by, pause, most })
    }

    /// The final state where there is no further try.
    const fn outcome(self) -> &'static str {
        match self {
            Self::StatementConflict => "`unavailable`",
            Self::ReplayBatch => "the replay is `failed`",
            Self::DeliveryUnacknowledged
            | Self::DeliveryRetried
            | Self::DeliveryFailed
            | Self::SweepItem
            | Self::EventRefused
            | Self::EventTooLong
            | Self::Notification => "dead letter",
            _ => "",
        }
    }

    /// How many tries there are where that is not configured; 1: no second one.
    #[must_use]
    pub const fn tries(self) -> u32 {
        match self.retry() {
            Some(Retry { most: Most::Times(times), .. }) => times,
            Some(Retry { most: Most::Any | Most::Configured(_), .. }) => u32::MAX,
            None => 1,
        }
    }

    /// The pause's figure: all of it, the most of a random one, or what each failure adds.
    #[must_use]
    pub const fn pause(self) -> Duration {
        match self.retry() {
            Some(Retry { pause: Pause::Of(pause) | Pause::Jitter(pause) | Pause::Growing(pause), .. }) => pause,
            Some(Retry { pause: Pause::Doubling { longest, .. }, .. }) => longest,
            Some(Retry { pause: Pause::Sweep, .. }) | None => Duration::ZERO,
        }
    }
}

impl Display for Pause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(pause) if pause.is_zero() => f.write_str("at once"),
            Self::Of(pause) => write!(f, "{pause:?}"),
            Self::Jitter(pause) => write!(f, "up to {pause:?}, at random"),
            Self::Doubling { first, longest } => write!(f, "up to {first:?}, doubling to {longest:?}, at random"),
            Self::Growing(pause) => write!(f, "{pause:?} for each failure so far"),
            Self::Sweep => f.write_str("at the next sweep"),
        }
    }
}

impl Display for Most {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("until it works"),
            Self::Times(times) => write!(f, "{times} tries"),
            Self::Configured(limit) => f.write_str(limit),
        }
    }
}

/// `docs/errors.md`: the table as Markdown.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# What can fail, and what is done about it\n\n\
        Printed from `shared/domain/src/failure.rs` by `make generate`; change it there. An answer that is tried again carries\n\
        `Retry-After`, and every call may simply be sent again as it was. Nothing else is retryable: the same call would\n\
        fail again. What has an answer is told to the caller; the rest is dealt with inside.\n\n\
        | what failed | answer | tried again by | when | how often | then |\n|---|---|---|---|---|---|\n",
    );
    for failure in Failure::all() {
        // A comment of several lines is one cell.
        let words: Vec<_> = failure.get_documentation().unwrap_or_default().split_whitespace().collect();
        let what = words.join(" ");
        let answer = failure.answer().map_or_else(String::new, |answer| format!("{} `{}`", answer.status, answer.code));
        let (by, pause, most) = match failure.retry() {
            Some(retry) => (retry.by, retry.pause.to_string(), retry.most.to_string()),
            None => ("nobody", String::new(), String::new()),
        };
        let outcome = failure.outcome();
        let _ = writeln!(text, "| {what} | {answer} | {by} | {pause} | {most} | {outcome} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_row_of_the_table() {
        let text = document();
        let rows = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        assert_eq!(rows.clone().count(), Failure::all().count());
        assert!(rows.clone().all(|row| row.starts_with("| ") && row.ends_with(" |")), "{text}");
    }
}
