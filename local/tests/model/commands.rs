//! What may happen to requests, drawn at random. Requests, dead letters and agents are named by small numbers, taken
//! modulo what there is, so that a sequence stays meaningful when shrinking takes something out of it.

use proptest::prelude::*;

/// Something that a client, an administrator, the scheduler or the time does.
#[derive(Clone, Debug)]
pub enum Command {
    /// A new envelope; `minutes` is the agent's own deadline, from now on.
    Submit {
        agent: usize,
        key: u8,
        flavour: Flavour,
        priority: i16,
        minutes: Option<i16>,
    },
    /// The envelope of a request once more.
    Resubmit {
        request: u8,
        change: Change,
    },
    Decide {
        request: u8,
        who: &'static str,
        verdict: Verdict,
        reason: Option<&'static str>,
        saw: Saw,
    },
    /// By the request's own agent, or by the other one.
    Cancel {
        request: u8,
        is_own: bool,
        reason: Option<&'static str>,
    },
    Dispose {
        request: u8,
        who: &'static str,
        what: Disposition,
        reason: &'static str,
    },
    Poll {
        agent: usize,
        limit: usize,
        only: Option<u8>,
    },
    Ack {
        request: u8,
        is_own: bool,
        delivery: Named,
        result: AckResult,
    },
    /// An attempt to use a permit, by the request's own agent or by the other one.
    Consume {
        request: u8,
        is_own: bool,
        key: u8,
        runs: Runs,
    },
    Report {
        request: u8,
        is_own: bool,
        succeeded: bool,
        note: Option<&'static str>,
    },
    Sweep,
    Retry {
        letter: u8,
        who: &'static str,
    },
    Discard {
        letter: u8,
        who: &'static str,
        reason: &'static str,
    },
    Replay {
        key: u8,
        of_events: bool,
        scope: Scope,
        reason: &'static str,
        is_dry_run: bool,
    },
    /// Whoever publishes takes what is left over; `dies`: after the stream's acknowledgement, before the bookkeeping.
    Publish {
        dies: bool,
    },
    Advance(Advance),
}

/// Which policies an action falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Those of everyone.
    Plain,
    /// The first agent's: raised when nobody answers.
    Raised,
    /// The first agent's: approved when nobody answers.
    Approved,
    /// The second agent's: not to be asked with P3.
    Bounded,
}

impl Flavour {
    pub fn action_type(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Raised => "raised",
            Self::Approved => "approved",
            Self::Bounded => "bounded",
        }
    }

    /// The answers that its envelopes name; `None`: none, which is to approve and to reject.
    pub fn answers(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Plain => Some(&["approve", "reject", "edit", "respond"]),
            Self::Raised | Self::Approved => None,
            Self::Bounded => Some(&["respond"]),
        }
    }
}

/// What an operator answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Approve,
    Reject,
    /// With these arguments: 0 are those that were asked for.
    Edit(u8),
    /// With one of two texts.
    Respond(u8),
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Edit(_) => "edit",
            Self::Respond(_) => "respond",
        }
    }

    /// Whether an envelope of this flavour offers it.
    pub fn is_offered(self, flavour: Flavour) -> bool {
        let offered = flavour.answers().unwrap_or(&["approve", "reject"]);
        self == Self::Reject || offered.contains(&self.as_str())
    }
}

/// The action that an executor is about to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    Approved,
    Asked,
    Another,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    MemberOrder,
    Title,
}

/// The action that an operator says they saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saw {
    This,
    Another,
    Unsaid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Cancel,
    Reject,
    /// So many minutes after the `respond_by` that stands; `None`: as extended before.
    Extend(Option<i16>),
    Reprioritise(i16),
    Requeue,
}

/// Which delivery an acknowledgement names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Latest,
    Earlier,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckResult {
    Accepted,
    Retry,
    Failed,
}

impl AckResult {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry => "retry",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug)]
pub enum Scope {
    Requests(Vec<u8>),
    DeadLetters,
    /// The last so many minutes, of one agent or of all.
    Period(u16, Option<usize>),
}

#[derive(Clone, Copy, Debug)]
pub enum Advance {
    Seconds(i64),
    /// To the nth moment at which something becomes due, a microsecond before it, or one after it.
    ToMoment(u8, i64),
}

/// What goes wrong during a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It was done, but the caller never heard of it and says the same again.
    AnswerLost,
    /// So many tries of its first statement that writes lose against another transaction (SQLSTATE 40001).
    Conflicts(i64),
    /// The statement is aborted (SQLSTATE 57014).
    Aborted,
    /// The server ends the connection in the middle of the statement.
    ConnectionLost,
    /// The statement breaks a constraint.
    Broken,
}

fn operator() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["maria", "ivan", "olga"])
}

fn administrator() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["root", "eve"])
}

fn reason() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["it is due", "a \"second\" thought"])
}

fn submit() -> impl Strategy<Value = Command> {
    let flavour = prop_oneof![
        3 => Just(Flavour::Plain),
        2 => Just(Flavour::Raised),
        2 => Just(Flavour::Approved),
        1 => Just(Flavour::Bounded),
    ];
    let minutes = prop_oneof![3 => Just(None), 1 => (-1_i16..30).prop_map(Some), 1 => Just(Some(2_000))];
    (0..2_usize, 0..4_u8, flavour, 1..=3_i16, minutes)
        .prop_map(|(agent, key, flavour, priority, minutes)| Command::Submit { agent, key, flavour, priority, minutes })
}

fn decide() -> impl Strategy<Value = Command> {
    let saw = prop_oneof![4 => Just(Saw::This), 1 => Just(Saw::Another), 2 => Just(Saw::Unsaid)];
    let verdict = prop_oneof![
        4 => Just(Verdict::Approve),
        3 => Just(Verdict::Reject),
        2 => (0..2_u8).prop_map(Verdict::Edit),
        1 => (0..2_u8).prop_map(Verdict::Respond),
    ];
    (any::<u8>(), operator(), verdict, reason(), saw, any::<bool>()).prop_map(
        |(request, who, verdict, reason, saw, is_silent)| {
            let reason = if verdict != Verdict::Reject && is_silent { None } else { Some(reason) };
            Command::Decide { request, who, verdict, reason, saw }
        },
    )
}

fn consume() -> impl Strategy<Value = Command> {
    let runs = prop_oneof![6 => Just(Runs::Approved), 1 => Just(Runs::Asked), 1 => Just(Runs::Another)];
    (any::<u8>(), prop::bool::weighted(0.9), 0..2_u8, runs).prop_map(|(request, is_own, key, runs)| Command::Consume {
        request,
        is_own,
        key,
        runs,
    })
}

fn report() -> impl Strategy<Value = Command> {
    let note = prop::option::of(Just("a \"second\" note"));
    (any::<u8>(), prop::bool::weighted(0.9), any::<bool>(), note)
        .prop_map(|(request, is_own, succeeded, note)| Command::Report { request, is_own, succeeded, note })
}

fn dispose() -> impl Strategy<Value = Command> {
    let what = prop_oneof![
        1 => Just(Disposition::Cancel),
        1 => Just(Disposition::Reject),
        2 => (-5_i16..60).prop_map(|minutes| Disposition::Extend(Some(minutes))),
        1 => Just(Disposition::Extend(None)),
        2 => (1..=3_i16).prop_map(Disposition::Reprioritise),
        3 => Just(Disposition::Requeue),
    ];
    (any::<u8>(), administrator(), what, reason()).prop_map(|(request, who, what, reason)| Command::Dispose {
        request,
        who,
        what,
        reason,
    })
}

fn acknowledge() -> impl Strategy<Value = Command> {
    let delivery = prop_oneof![5 => Just(Named::Latest), 1 => Just(Named::Earlier), 1 => Just(Named::Unknown)];
    let result = prop_oneof![2 => Just(AckResult::Accepted), 2 => Just(AckResult::Retry), 1 => Just(AckResult::Failed)];
    (any::<u8>(), prop::bool::weighted(0.9), delivery, result)
        .prop_map(|(request, is_own, delivery, result)| Command::Ack { request, is_own, delivery, result })
}

fn replay() -> impl Strategy<Value = Command> {
    let scope = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..3).prop_map(Scope::Requests),
        Just(Scope::DeadLetters),
        (1..3_000_u16, prop::option::of(0..2_usize)).prop_map(|(minutes, agent)| Scope::Period(minutes, agent)),
    ];
    (0..6_u8, any::<bool>(), scope, reason(), prop::bool::weighted(0.2)).prop_map(
        |(key, of_events, scope, reason, is_dry_run)| Command::Replay { key, of_events, scope, reason, is_dry_run },
    )
}

fn advance() -> impl Strategy<Value = Command> {
    let seconds = prop::sample::select(vec![1, 10, 31, 60, 600, 3_600, 86_400, 7 * 86_400]);
    prop_oneof![
        1 => seconds.prop_map(Advance::Seconds),
        3 => (0..6_u8, -1..=1_i64).prop_map(|(nth, micros)| Advance::ToMoment(nth, micros)),
    ]
    .prop_map(Command::Advance)
}

fn command() -> impl Strategy<Value = Command> {
    let change = prop_oneof![2 => Just(Change::None), 1 => Just(Change::MemberOrder), 1 => Just(Change::Title)];
    prop_oneof![
        8 => submit(),
        2 => (any::<u8>(), change).prop_map(|(request, change)| Command::Resubmit { request, change }),
        6 => decide(),
        2 => (any::<u8>(), prop::bool::weighted(0.8), prop::option::of(reason()))
            .prop_map(|(request, is_own, reason)| Command::Cancel { request, is_own, reason }),
        6 => dispose(),
        8 => (0..2_usize, 1..4_usize, prop::option::weighted(0.2, any::<u8>()))
            .prop_map(|(agent, limit, only)| Command::Poll { agent, limit, only }),
        8 => acknowledge(),
        6 => consume(),
        4 => report(),
        6 => Just(Command::Sweep),
        2 => (any::<u8>(), administrator()).prop_map(|(letter, who)| Command::Retry { letter, who }),
        1 => (any::<u8>(), administrator(), reason())
            .prop_map(|(letter, who, reason)| Command::Discard { letter, who, reason }),
        3 => replay(),
        3 => any::<bool>().prop_map(|dies| Command::Publish { dies }),
        10 => advance(),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        14 => Just(Fault::None),
        2 => Just(Fault::AnswerLost),
        1 => (1..=5_i64).prop_map(Fault::Conflicts),
        1 => Just(Fault::Aborted),
        1 => Just(Fault::ConnectionLost),
        1 => Just(Fault::Broken),
    ]
}

/// A life, or some that cross each other.
pub fn history() -> impl Strategy<Value = Vec<(Command, Fault)>> {
    prop::collection::vec((command(), fault()), 1..60)
}
