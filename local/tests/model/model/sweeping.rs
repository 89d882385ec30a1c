//! What happens because time has passed.

use super::{DAY, MAX_ATTEMPTS, Model, OnTimeout, Swept, policy, share, system};

impl Model {
    /// A whole sweep: until there is nothing left to do.
    pub(super) fn sweep(&mut self) -> Swept {
        let mut swept = self.sweep_parts(None);
        swept.dedupe_dropped = self.drop_keys();
        swept
    }

    /// A sweep in which the first part that has something to do fails: the others are done all the same.
    pub fn sweep_without_first(&mut self) {
        let first = (0..5).find(|part| self.clone().sweep_part(*part) > 0);
        self.sweep_parts(first);
        self.drop_keys();
    }

    pub(super) fn drop_keys(&mut self) -> u64 {
        let (before, now) = (self.keys.len(), self.now);
        let Self { keys, requests, .. } = self;
        for key in keys.values_mut().filter(|key| key.expires_at <= now) {
            let decided_at = requests[key.request].decision.as_ref().map_or(now, |decision| decision.at);
            key.expires_at = decided_at + DAY;
        }
        keys.retain(|_, key| key.expires_at > now);
        (before - keys.len()) as u64
    }

    pub(super) fn sweep_parts(&mut self, without: Option<usize>) -> Swept {
        let mut counts = [0; 5];
        for (part, count) in counts.iter_mut().enumerate() {
            if without != Some(part) {
                *count = self.sweep_part(part);
            }
        }
        let [raised, expired, escalated, dead_lettered, outcomes_unknown] = counts;
        Swept { raised, expired, escalated, dead_lettered, outcomes_unknown, dedupe_dropped: 0 }
    }

    pub(super) fn sweep_part(&mut self, part: usize) -> u64 {
        let doing = [Self::raise, Self::expire, Self::escalate, Self::dead_letter, Self::become_unknown][part];
        (0..self.requests.len()).map(|request| u64::from(doing(self, request))).sum()
    }

    pub(super) fn raise(&mut self, request: usize) -> bool {
        let now = self.now;
        let of = &mut self.requests[request];
        if of.is_decided || of.respond_by > now || !of.may_be_raised(now) {
            return false;
        }
        of.priority -= 1;
        let policy = policy(of.agent, of.flavour, of.priority);
        of.respond_by = of.requested_respond_by.map_or(now + policy.within, |by| by.min(now + policy.within));
        of.escalate_at = policy.escalate_percent.map(|percent| now + share(of.respond_by - now, percent));
        of.escalated_at = None;
        self.append(request, "reprioritised", system(), None);
        true
    }

    pub(super) fn expire(&mut self, request: usize) -> bool {
        let of = &self.requests[request];
        if of.is_decided || of.respond_by > self.now || of.may_be_raised(self.now) {
            return false;
        }
        let is_approved = of.on_timeout == OnTimeout::Approve && of.priority > 1;
        self.make_decision(request, if is_approved { "approved" } else { "rejected" }, "timeout", system(), None);
        true
    }

    pub(super) fn escalate(&mut self, request: usize) -> bool {
        let of = &mut self.requests[request];
        if of.is_decided || of.escalated_at.is_some() || of.escalate_at.is_none_or(|at| at > self.now) {
            return false;
        }
        of.escalated_at = Some(self.now);
        self.append(request, "escalated", system(), None);
        true
    }

    pub(super) fn dead_letter(&mut self, request: usize) -> bool {
        let now = self.now;
        let Some(delivery) = &mut self.requests[request].delivery else { return false };
        if !delivery.is_open() || delivery.expires_at > now {
            return false;
        }
        delivery.state = "dead_lettered";
        let attempts = delivery.attempt;
        let cause = if attempts >= MAX_ATTEMPTS { "attempts_exhausted" } else { "age_exceeded" };
        self.append(request, "dead_lettered", system(), None);
        self.set_aside(request, cause, attempts);
        true
    }
}
