//! A request's life in plain memory: what the contract promises, without a database, without concurrency.

mod asking;
mod delivering;
mod sweeping;
mod using;

use std::collections::{BTreeMap, HashMap};

use crate::commands::{AckResult, Advance, Change, Command, Flavour};
pub use using::{ASKED, action};

/// Microseconds since the epoch.
pub type Micros = i64;

pub const SECOND: Micros = 1_000_000;
pub const DAY: Micros = 86_400 * SECOND;
pub const LEASE: Micros = 30 * SECOND;
/// After so many attempts a delivery is exhausted: few, so that it happens.
pub const MAX_ATTEMPTS: i32 = 3;
/// Whoever wrote an event publishes it within this time; then it may be claimed.
const OWN_TIME: Micros = 10 * SECOND;
const CLAIM: Micros = 30 * SECOND;
/// How long an approval may be used where nothing says.
const PERMIT: Micros = 3_600 * SECOND;
/// Silence after a use lasts so long.
const OUTCOME_WITHIN: Micros = 3_600 * SECOND;
/// How long an unknown outcome is listed.
const LISTED_FOR: Micros = 7 * 24 * 3_600 * SECOND;

/// From, to, and of which agent.
type Period = (Micros, Micros, Option<usize>);

/// Who did something: kind and id.
type Actor = (&'static str, String);

#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Set by the first answer that names it.
    pub id: Option<String>,
    pub agent: usize,
    pub key: u8,
    pub flavour: Flavour,
    /// Which of the titles it has.
    pub title: usize,
    pub is_decided: bool,
    pub priority: i16,
    pub asked_priority: i16,
    pub created_at: Micros,
    pub respond_by: Micros,
    pub requested_respond_by: Option<Micros>,
    pub on_timeout: OnTimeout,
    pub escalate_at: Option<Micros>,
    pub escalated_at: Option<Micros>,
    pub chain: Vec<Entry>,
    pub decision: Option<Decision>,
    /// Approvals that decide it.
    pub approvals: usize,
    /// Those before the last: who, and in what words.
    pub votes: Vec<(&'static str, Option<&'static str>)>,
    pub delivery: Option<Delivery>,
    /// How long an approval of it may be used, and whether it must be before it is accepted.
    permit_for: Micros,
    consume_required: bool,
    pub permit_expires_at: Option<Micros>,
    pub used: Option<Use>,
    pub noted: Option<Noted>,
    pub outcome_due: Option<Micros>,
}

/// A permit that is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    pub key: u8,
    pub at: Micros,
}

/// What is on record of a use.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    pub state: &'static str,
    pub note: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    Reject,
    Approve,
    Raise,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub kind: &'static str,
    pub at: Micros,
    pub actor: Actor,
    pub reason: Option<&'static str>,
    /// As it stood after it.
    pub priority: i16,
    pub respond_by: Micros,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub outcome: &'static str,
    pub cause: &'static str,
    pub by: Actor,
    pub reason: Option<&'static str>,
    pub at: Micros,
    /// Its place in the chain, from 1.
    pub seq: usize,
    /// The arguments that an edit gave it.
    pub edited_to: Option<u8>,
    /// Which text an operator responded with.
    pub response: Option<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub state: &'static str,
    pub attempt: i32,
    /// When a poll may take it: from and to, as the backoff is random. What was seen narrows it to one moment.
    pub visible: (Micros, Micros),
    pub expires_at: Micros,
    /// Of all attempts, as they were seen.
    pub ids: Vec<String>,
    pub result: Option<AckResult>,
    pub is_replayed: bool,
    /// Chain entry, administrator and reason of the latest requeue.
    requeued: Option<(usize, String, Option<&'static str>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    pub id: Option<String>,
    pub request: usize,
    pub cause: &'static str,
    pub attempts: i32,
    pub resolution: Option<(&'static str, String, Option<&'static str>)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Key {
    request: usize,
    expires_at: Micros,
}

#[derive(Clone, Debug, PartialEq)]
struct Replay {
    order: String,
    matched: usize,
    done: usize,
}

/// What a command must answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// There is nothing that it could be about.
    Nothing,
    Problem(u16, &'static str),
    /// A request as it now stands.
    Request(u16, usize),
    /// The decision that stands.
    Decision(u16, usize),
    /// An approval that does not decide.
    Voted(u16, usize),
    Disposed(usize),
    /// Some of what is due, the longest due first.
    Polled {
        due: Vec<usize>,
        limit: usize,
    },
    Acked(usize),
    Used {
        request: usize,
        repeated: bool,
    },
    Noted {
        request: usize,
        repeated: bool,
    },
    Letter(usize),
    Replayed {
        matched: usize,
        done: usize,
    },
    Swept(Swept),
    /// Events, by request and place in its chain.
    Published(Vec<(usize, usize)>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub raised: u64,
    pub expired: u64,
    pub escalated: u64,
    pub dead_lettered: u64,
    pub outcomes_unknown: u64,
    pub dedupe_dropped: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub now: Micros,
    pub requests: Vec<Request>,
    pub letters: Vec<Letter>,
    /// What waits to be published, and until when it is someone's.
    pub outbox: BTreeMap<(usize, usize), Micros>,
    keys: HashMap<(usize, u8), Key>,
    replays: HashMap<u8, Replay>,
}

struct Policy {
    within: Micros,
    escalate_percent: Option<i64>,
    on_timeout: OnTimeout,
    permit_for: Micros,
    consume_required: bool,
    approvals: usize,
}

pub const AGENTS: [&str; 2] = ["a", "b"];

/// What the second agent may have pending: of all priorities, of P1.
pub const CAPS: (usize, usize) = (5, 2);

/// The policies that the test sets, beside the defaults (`case.rs`).
fn policy(agent: usize, flavour: Flavour, priority: i16) -> Policy {
    let (seconds, escalate_percent, on_timeout) = match (agent, flavour, priority) {
        (0, Flavour::Raised, 3) => (3_600, Some(50), OnTimeout::Raise),
        (0, Flavour::Raised, 2) => (1_800, Some(30), OnTimeout::Raise),
        (0, Flavour::Approved, 3) => (2_400, None, OnTimeout::Approve),
        (0, Flavour::Approved, 2) => (1_200, None, OnTimeout::Approve),
        (_, _, 1) => (900, Some(50), OnTimeout::Reject),
        (_, _, 2) => (14_400, Some(50), OnTimeout::Reject),
        _ => (86_400, None, OnTimeout::Reject),
    };
    let (permit_for, consume_required) = match (agent, flavour, priority) {
        (0, Flavour::Raised, 2 | 3) => (60 * SECOND, true),
        (0, Flavour::Approved, 2 | 3) => (600 * SECOND, false),
        _ => (PERMIT, false),
    };
    let approvals = match (agent, flavour, priority) {
        (0, Flavour::Raised, 2 | 3) => 2,
        (1, Flavour::Plain, 2) => 3,
        _ => 1,
    };
    Policy { within: seconds * SECOND, escalate_percent, on_timeout, permit_for, consume_required, approvals }
}

/// That share of a time, as the database rounds it.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "hours in microseconds")]
fn share(time: Micros, percent: i64) -> Micros {
    ((time * percent) as f64 / 100.0).round_ties_even() as Micros
}

/// The longest backoff after the attempt `before` which there were so many.
fn longest_backoff(before: i32) -> Micros {
    2_i64.pow(before.clamp(0, 9).cast_unsigned()).min(300) * SECOND
}

impl Model {
    /// Nothing has happened yet.
    pub fn starting_at(now: Micros) -> Self {
        Self { now, ..Self::default() }
    }

    /// Does what a command does, and says what it must answer.
    pub fn perform(&mut self, command: &Command) -> Expected {
        let nth = |number: u8, of: usize| usize::from(number).checked_rem(of);
        let of = self.requests.len();
        match command {
            Command::Submit { agent, key, flavour, priority, minutes } => {
                let respond_by = minutes.map(|minutes| self.now + i64::from(minutes) * 60 * SECOND);
                self.submit(*agent, *key, *flavour, *priority, respond_by, 0)
            }
            Command::Advance(advance) => {
                self.now = self.moment(*advance);
                Expected::Nothing
            }
            Command::Poll { agent, limit, only } => {
                let only = only.and_then(|only| nth(only, of));
                Expected::Polled { due: self.due(*agent, only), limit: *limit }
            }
            Command::Sweep => Expected::Swept(self.sweep()),
            Command::Publish { dies } => self.publish(*dies),
            Command::Replay { key, of_events, scope, reason, is_dry_run } => {
                self.replay(*key, *of_events, scope, reason, *is_dry_run)
            }
            Command::Retry { letter, who } => {
                nth(*letter, self.letters.len()).map_or(Expected::Nothing, |letter| self.retry(letter, who))
            }
            Command::Discard { letter, who, reason } => {
                nth(*letter, self.letters.len()).map_or(Expected::Nothing, |letter| self.discard(letter, who, reason))
            }
            Command::Resubmit { request, .. }
            | Command::Decide { request, .. }
            | Command::Cancel { request, .. }
            | Command::Dispose { request, .. }
            | Command::Ack { request, .. }
            | Command::Consume { request, .. }
            | Command::Report { request, .. } => {
                nth(*request, of).map_or(Expected::Nothing, |request| self.about(request, command))
            }
        }
    }

    fn about(&mut self, request: usize, command: &Command) -> Expected {
        match command {
            Command::Resubmit { change, .. } => {
                let Request { agent, key, flavour, asked_priority, requested_respond_by, .. } = self.requests[request];
                let title = self.requests[request].title_after(*change);
                self.submit(agent, key, flavour, asked_priority, requested_respond_by, title)
            }
            Command::Decide { who, verdict, reason, saw, .. } => self.decide(request, who, *verdict, *reason, *saw),
            Command::Cancel { is_own, reason, .. } => self.cancel(request, *is_own, *reason),
            Command::Dispose { who, what, reason, .. } => self.dispose(request, who, *what, reason),
            Command::Ack { is_own, delivery, result, .. } => self.acknowledge(request, *is_own, *delivery, *result),
            Command::Consume { is_own, key, runs, .. } => self.consume(request, *is_own, *key, *runs),
            Command::Report { is_own, succeeded, note, .. } => {
                let state = if *succeeded { "succeeded" } else { "failed" };
                self.report(request, *is_own, Noted { state, note: *note })
            }
            _ => unreachable!("not about one request"),
        }
    }

    /// How many requests of an agent are pending: of all priorities, of P1.
    pub fn pending(&self, agent: usize) -> (usize, usize) {
        let pending = || self.requests.iter().filter(|request| request.agent == agent && !request.is_decided);
        (pending().count(), pending().filter(|request| request.priority == 1).count())
    }

    /// The moment that an advance leads to; never back.
    fn moment(&self, advance: Advance) -> Micros {
        match advance {
            Advance::Seconds(seconds) => self.now + seconds * SECOND,
            Advance::ToMoment(nth, micros) => {
                let mut moments: Vec<_> = self.keys.values().map(|key| key.expires_at).collect();
                moments.extend(self.outbox.values());
                for request in &self.requests {
                    if !request.is_decided {
                        moments.push(request.respond_by);
                        moments.extend(request.escalate_at.filter(|_| request.escalated_at.is_none()));
                    }
                    if let Some(delivery) = request.delivery.as_ref().filter(|delivery| delivery.is_open()) {
                        moments.extend([delivery.visible.0, delivery.expires_at]);
                    }
                    moments.extend(request.permit_expires_at.filter(|_| request.used.is_none()));
                    moments.extend(request.outcome_due);
                }
                moments.retain(|moment| *moment > self.now);
                moments.sort_unstable();
                moments.dedup();
                let nth = usize::from(nth).checked_rem(moments.len());
                nth.map_or(self.now, |nth| (moments[nth] + micros).max(self.now))
            }
        }
    }
}

fn is_told(kind: &str) -> bool {
    !matches!(kind, "extended" | "reprioritised")
}

fn system() -> Actor {
    ("system", "timeout-sweep".to_owned())
}

impl Request {
    /// The approvals so far, the one that decided included.
    pub fn given(&self) -> usize {
        let decides = |decision: &Decision| decision.outcome == "approved" && decision.by.0 == "operator";
        self.votes.len() + usize::from(self.decision.as_ref().is_some_and(decides))
    }

    fn may_be_raised(&self, now: Micros) -> bool {
        self.on_timeout == OnTimeout::Raise && self.priority > 1 && self.requested_respond_by.is_none_or(|by| by > now)
    }

    /// The title that is sent with a change.
    pub fn title_after(&self, change: Change) -> usize {
        self.title + usize::from(change == Change::Title)
    }

    /// What an extension asks for.
    pub fn extended_until(&self, minutes: Option<i16>) -> Micros {
        match minutes {
            Some(minutes) => self.respond_by + i64::from(minutes) * 60 * SECOND,
            None => self.chain.iter().rfind(|entry| entry.kind == "extended").map_or(self.respond_by, |e| e.respond_by),
        }
    }
}

impl Decision {
    fn repeats(&self, by: &Actor, outcome: &str, reason: Option<&str>) -> bool {
        self.by == *by && self.outcome == outcome && self.reason == reason
    }

    /// The same was written: an edit that changes nothing is an approval.
    fn writes(&self, edited_to: Option<u8>, response: Option<u8>) -> bool {
        self.edited_to.unwrap_or(ASKED) == edited_to.unwrap_or(ASKED) && self.response == response
    }
}

impl Entry {
    fn is_by(&self, actor: &Actor, reason: &str) -> bool {
        self.actor == *actor && self.reason == Some(reason)
    }
}

impl Delivery {
    /// Neither acknowledged nor dead-lettered.
    pub fn is_open(&self) -> bool {
        matches!(self.state, "ready" | "leased")
    }
}
