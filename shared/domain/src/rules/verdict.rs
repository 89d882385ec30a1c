//! What rules that were judged come to together.

use super::Rule;
use super::document::{Ask, AtMost};
use super::matching::Judged;
use crate::{Answer, Answers, Digest, Priority, Reason, RuleName};

/// What rules may do with a submission. What they may not do is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Latitude {
    /// They decide nothing.
    Ask,
    /// They may reject it.
    Reject,
    /// They may approve it, too, where it does not ask with P1.
    Approve,
}

impl Latitude {
    /// The same for an agent that takes these answers.
    #[must_use]
    pub fn where_taken(self, answers: &Answers) -> Self {
        if answers.has(Answer::Approve) { self } else { self.min(Self::Reject) }
    }

    /// The same for this priority that an agent asks with.
    pub(super) fn of(self, priority: Priority) -> Self {
        if priority == Priority::P1 { self.min(Self::Reject) } else { self }
    }
}

/// A decision of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decides {
    /// The reason that the decision gives.
    pub reason: Reason,
    /// How often it may decide.
    pub at_most: Option<AtMost>,
    /// Digest of its `match`, whatever the order of its members: a rule that comes to be about something else counts anew.
    pub scope: Digest,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// People are asked.
    Ask(Ask),
    /// It is approved.
    Approve(Decides),
    /// It is rejected.
    Reject(Decides),
}

impl Effect {
    /// As entries name it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ask(_) => "ask",
            Self::Approve(_) => "approve",
            Self::Reject(_) => "reject",
        }
    }

    /// Who is asked, and how; `None`: it decides.
    #[must_use]
    pub const fn ask(&self) -> Option<&Ask> {
        match self {
            Self::Ask(ask) => Some(ask),
            Self::Approve(_) | Self::Reject(_) => None,
        }
    }

    /// Its decision; `None`: people are asked.
    #[must_use]
    pub const fn decides(&self) -> Option<&Decides> {
        match self {
            Self::Approve(decides) | Self::Reject(decides) => Some(decides),
            Self::Ask(_) => None,
        }
    }

    /// What rules must be allowed to do for it.
    const fn needs(&self) -> Latitude {
        match self {
            Self::Ask(_) => Latitude::Ask,
            Self::Approve(_) => Latitude::Approve,
            Self::Reject(_) => Latitude::Reject,
        }
    }
}

/// A rule that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The first that holds; or the first that failed, where nothing after it rejects.
    pub rule: RuleName,
    /// What comes of it.
    pub effect: Effect,
    /// The rule could not be judged, so people are asked.
    pub failed: bool,
    /// The rule holds and would decide, but may not, so people are asked.
    pub withheld: bool,
    /// The first that failed before it, where another one applies: it rejects.
    pub failed_before: Option<RuleName>,
}

/// What the rules say of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What applies; `None`: no enforced rule holds, and none failed.
    pub applied: Option<Applied>,
    /// Rules that could not be judged, enforced ones and those of the shadow, in their order.
    pub failed: Vec<RuleName>,
    /// What would apply if the rules of the shadow were in force, where that is one of them; else the first of them that
    /// holds, with its own effect. It never acts.
    pub shadow: Option<Applied>,
}

/// How far the rules have got that were judged one after the other.
#[derive(Debug)]
pub(super) struct Course<'a> {
    latitude: Latitude,
    standing: Standing<'a>,
    /// Of the first later rule that holds and asks, and of the first that failed.
    routing: Option<&'a Ask>,
    unjudged: Option<&'a Ask>,
    /// Of all that ask and hold or may hold.
    strictest: Ask,
    first_failed: Option<&'a Rule>,
}

#[derive(Clone, Copy, Debug)]
enum Standing<'a> {
    /// None has held or failed.
    Open,
    /// This one failed first. A later one may reject and not approve.
    Failed(&'a Rule),
    /// This one holds first, and may not decide. Later ones say who is asked.
    Withheld(&'a Rule),
    /// This one applies, whatever follows.
    Settled(&'a Rule),
}

impl<'a> Course<'a> {
    pub(super) fn new(latitude: Latitude) -> Self {
        let strictest = Ask::default();
        Self { latitude, standing: Standing::Open, routing: None, unjudged: None, strictest, first_failed: None }
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self.standing, Standing::Settled(_))
    }

    /// Takes the next rule.
    pub(super) fn see(&mut self, rule: &'a Rule, judged: Judged) {
        let may_act = rule.effect.needs() <= self.latitude;
        match (self.standing, judged, &rule.effect) {
            (Standing::Settled(_), ..) | (_, Judged::HoldsNot, _) => return,
            (Standing::Open, Judged::Holds, _) if may_act => self.standing = Standing::Settled(rule),
            (Standing::Open, Judged::Holds, _) => self.standing = Standing::Withheld(rule),
            // What an argument that cannot be judged would let go on to a person stays rejected.
            (Standing::Failed(_), Judged::Holds, Effect::Reject(_)) if may_act => {
                self.standing = Standing::Settled(rule);
            }
            (_, Judged::Holds, effect) => self.routing = self.routing.or(effect.ask()),
            (standing, Judged::Fails, effect) => {
                if matches!(standing, Standing::Open) {
                    self.standing = Standing::Failed(rule);
                }
                self.unjudged = self.unjudged.or(effect.ask());
                self.first_failed = self.first_failed.or(Some(rule));
            }
        }
        // A rule that may hold counts as one that does.
        self.strictest.tighten(rule.effect.ask());
    }

    pub(super) fn applied(&self) -> Option<Applied> {
        let asked = |rule: &Rule, failed| {
            let effect = Effect::Ask(self.ask());
            Applied { rule: rule.name.clone(), effect, failed, withheld: !failed, failed_before: None }
        };
        match self.standing {
            Standing::Open => None,
            Standing::Failed(rule) => Some(asked(rule, true)),
            Standing::Withheld(rule) => Some(asked(rule, false)),
            Standing::Settled(rule) => {
                let (rule, effect) = (rule.name.clone(), rule.effect.clone());
                let failed_before = self.first_failed.map(|failed| failed.name.clone());
                Some(Applied { rule, effect, failed: false, withheld: false, failed_before })
            }
        }
    }

    /// What a rule that holds comes to alone.
    pub(super) fn of_one(rule: &'a Rule, latitude: Latitude) -> Option<Applied> {
        let mut course = Self::new(latitude);
        course.see(rule, Judged::Holds);
        course.applied()
    }

    /// What applies, where it is a rule of the shadow.
    pub(super) fn applied_of_shadow(&self) -> Option<Applied> {
        let (Standing::Failed(rule) | Standing::Withheld(rule) | Standing::Settled(rule)) = self.standing else {
            return None;
        };
        rule.is_shadow.then(|| self.applied()).flatten()
    }

    /// Who is asked where no single rule says it.
    fn ask(&self) -> Ask {
        let ask = self.routing.or(self.unjudged).cloned().unwrap_or_default();
        let Ask { approvals, consume, permit_seconds, .. } = self.strictest;
        // What cannot be judged allows nothing.
        let requester_may_decide = ask.requester_may_decide.filter(|_| self.first_failed.is_none());
        Ask { approvals, permit_seconds, consume, requester_may_decide, ..ask }
    }
}
