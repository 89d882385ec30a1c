//! Asking and deciding: by agents, operators and administrators.

use super::{
    AGENTS, Actor, CAPS, DAY, Decision, Delivery, Entry, Expected, Key, Micros, Model, OWN_TIME, OnTimeout, Request,
    is_told, policy, share,
};
use crate::commands::{Disposition, Flavour, Saw, Verdict};

impl Model {
    pub(super) fn submit(
        &mut self,
        agent: usize,
        key: u8,
        flavour: Flavour,
        priority: i16,
        requested_respond_by: Option<Micros>,
        title: usize,
    ) -> Expected {
        let policy = policy(agent, flavour, priority);
        if let Some(standing) = self.keys.get(&(agent, key)).filter(|standing| self.is_kept(standing)) {
            let request = &self.requests[standing.request];
            let is_same = (request.flavour, request.asked_priority, request.requested_respond_by, request.title)
                == (flavour, priority, requested_respond_by, title);
            return if is_same {
                Expected::Request(200, standing.request)
            } else {
                Expected::Problem(422, "idempotency-key-reused")
            };
        }
        let latest = self.now + policy.within;
        let is_too_low = agent == 1 && flavour == Flavour::Bounded && priority > 2;
        if is_too_low || requested_respond_by.is_some_and(|by| by <= self.now || by > latest) {
            return Expected::Problem(422, "validation-failed");
        }
        let (pending, pending_p1) = self.pending(agent);
        if agent == 1 && (pending >= CAPS.0 || priority == 1 && pending_p1 >= CAPS.1) {
            return Expected::Problem(429, "rate-limited");
        }
        let respond_by = requested_respond_by.unwrap_or(latest);
        let is_shortened = respond_by < latest;
        let request = self.requests.len();
        self.requests.push(Request {
            id: None,
            agent,
            key,
            flavour,
            title,
            is_decided: false,
            priority,
            asked_priority: priority,
            created_at: self.now,
            respond_by,
            requested_respond_by,
            on_timeout: match policy.on_timeout {
                OnTimeout::Approve if is_shortened => OnTimeout::Reject,
                on_timeout => on_timeout,
            },
            escalate_at: policy.escalate_percent.map(|percent| self.now + share(respond_by - self.now, percent)),
            escalated_at: None,
            chain: Vec::new(),
            decision: None,
            approvals: policy.approvals,
            votes: Vec::new(),
            delivery: None,
            permit_for: policy.permit_for,
            consume_required: policy.consume_required,
            permit_expires_at: None,
            used: None,
            noted: None,
            outcome_due: None,
        });
        self.append(request, "submitted", ("agent", AGENTS[agent].into()), None);
        self.keys.insert((agent, key), Key { request, expires_at: self.now + 7 * DAY });
        Expected::Request(201, request)
    }

    /// Whether a key stands for its request: for its time, while the request is pending, and a day from the decision.
    fn is_kept(&self, key: &Key) -> bool {
        let decision = self.requests[key.request].decision.as_ref();
        key.expires_at > self.now || decision.is_none_or(|decision| decision.at + DAY > self.now)
    }

    /// An entry of the chain, and its event if it is one that is told.
    pub(super) fn append(&mut self, request: usize, kind: &'static str, actor: Actor, reason: Option<&'static str>) {
        let of = &mut self.requests[request];
        let (priority, respond_by) = (of.priority, of.respond_by);
        of.chain.push(Entry { kind, at: self.now, actor, reason, priority, respond_by });
        if is_told(kind) {
            self.outbox.insert((request, of.chain.len()), self.now + OWN_TIME);
        }
    }

    pub(super) fn make_decision(
        &mut self,
        request: usize,
        outcome: &'static str,
        cause: &'static str,
        by: Actor,
        reason: Option<&'static str>,
    ) {
        self.append(request, "decided", by.clone(), reason);
        let of = &mut self.requests[request];
        of.is_decided = true;
        let seq = of.chain.len();
        of.decision = Some(Decision { outcome, cause, by, reason, at: self.now, seq, edited_to: None, response: None });
        of.permit_expires_at = (outcome == "approved").then_some(self.now + of.permit_for);
        of.delivery = Some(Delivery {
            state: "ready",
            attempt: 0,
            visible: (self.now, self.now),
            expires_at: self.now + DAY,
            ids: Vec::new(),
            result: None,
            is_replayed: false,
            requeued: None,
        });
    }

    pub(super) fn decide(
        &mut self,
        request: usize,
        who: &'static str,
        verdict: Verdict,
        reason: Option<&'static str>,
        saw: Saw,
    ) -> Expected {
        let by = ("operator", who.to_owned());
        let (outcome, edited_to, response) = match verdict {
            Verdict::Approve => ("approved", None, None),
            Verdict::Edit(arguments) => ("approved", Some(arguments), None),
            Verdict::Reject => ("rejected", None, None),
            Verdict::Respond(text) => ("responded", None, Some(text)),
        };
        let of = &self.requests[request];
        let is_offered = verdict.is_offered(of.flavour);
        let is_vote = outcome == "approved" && edited_to.is_none() && of.approvals > 1;
        let has_vote = is_vote && of.votes.contains(&(who, reason));
        if let Some(decision) = &of.decision {
            let is_same = decision.repeats(&by, outcome, reason) && decision.writes(edited_to, response);
            let is_same = is_same || has_vote;
            return Expected::Decision(if is_same { 200 } else { 409 }, request);
        }
        // What is written is held against the offer before anything else of an open request.
        if !is_offered && (edited_to.is_some() || response.is_some()) && self.now < of.respond_by {
            return Expected::Problem(422, "validation-failed");
        }
        if has_vote && saw == Saw::This {
            return Expected::Voted(200, request);
        }
        if self.now >= of.respond_by {
            return Expected::Problem(409, "expired");
        }
        if is_vote && saw == Saw::Unsaid {
            return Expected::Problem(422, "validation-failed");
        }
        if saw == Saw::Another {
            return Expected::Problem(409, "action-mismatch");
        }
        if !is_offered {
            return Expected::Problem(422, "validation-failed");
        }
        if of.approvals > 1 && (edited_to.is_some() || response.is_some()) {
            return Expected::Problem(409, "conflict");
        }
        if is_vote && of.votes.iter().any(|(voter, _)| *voter == who) {
            return Expected::Problem(409, "already-voted");
        }
        if is_vote && of.votes.len() + 1 < of.approvals {
            self.append(request, "voted", by, reason);
            self.requests[request].votes.push((who, reason));
            return Expected::Voted(201, request);
        }
        self.make_decision(request, outcome, "operator", by, reason);
        if let Some(decision) = &mut self.requests[request].decision {
            (decision.edited_to, decision.response) = (edited_to, response);
        }
        Expected::Decision(201, request)
    }

    pub(super) fn cancel(&mut self, request: usize, is_own: bool, reason: Option<&'static str>) -> Expected {
        if !is_own {
            return Expected::Problem(404, "not-found");
        }
        let of = &self.requests[request];
        match &of.decision {
            Some(decision) if decision.cause == "agent" => return Expected::Decision(200, request),
            Some(_) => return Expected::Decision(409, request),
            None => {}
        }
        let by = ("agent", AGENTS[of.agent].to_owned());
        self.make_decision(request, "cancelled", "agent", by, reason);
        Expected::Decision(200, request)
    }

    pub(super) fn dispose(&mut self, request: usize, who: &str, what: Disposition, reason: &'static str) -> Expected {
        let by = ("admin", who.to_owned());
        match what {
            Disposition::Cancel => self.decide_as_admin(request, "cancelled", by, reason),
            Disposition::Reject => self.decide_as_admin(request, "rejected", by, reason),
            Disposition::Extend(minutes) => {
                let until = self.requests[request].extended_until(minutes);
                self.extend(request, until, by, reason)
            }
            Disposition::Reprioritise(to) => self.reprioritise(request, to, by, reason),
            Disposition::Requeue => self.requeue(request, who, reason),
        }
    }

    pub(super) fn decide_as_admin(
        &mut self,
        request: usize,
        outcome: &'static str,
        by: Actor,
        reason: &'static str,
    ) -> Expected {
        match &self.requests[request].decision {
            Some(decision) if decision.repeats(&by, outcome, Some(reason)) => Expected::Disposed(request),
            Some(_) => Expected::Decision(409, request),
            None => {
                self.make_decision(request, outcome, "admin", by, Some(reason));
                Expected::Disposed(request)
            }
        }
    }

    pub(super) fn extend(&mut self, request: usize, until: Micros, by: Actor, reason: &'static str) -> Expected {
        let of = &mut self.requests[request];
        if !of.is_decided && self.now < of.respond_by && until > of.respond_by {
            of.respond_by = until;
            self.append(request, "extended", by, Some(reason));
            return Expected::Disposed(request);
        }
        let mut extensions = of.chain.iter().filter(|entry| entry.kind == "extended");
        if extensions.any(|entry| entry.respond_by == until && entry.is_by(&by, reason)) {
            Expected::Disposed(request)
        } else if self.now >= of.respond_by {
            Expected::Problem(409, "expired")
        } else if !of.is_decided && until < of.respond_by {
            Expected::Problem(422, "validation-failed")
        } else {
            Expected::Problem(409, "conflict")
        }
    }

    pub(super) fn reprioritise(&mut self, request: usize, to: i16, by: Actor, reason: &'static str) -> Expected {
        let of = &mut self.requests[request];
        if !of.is_decided && of.priority != to {
            of.priority = to;
            if of.on_timeout == OnTimeout::Approve {
                of.on_timeout = OnTimeout::Reject;
            }
            self.append(request, "reprioritised", by, Some(reason));
            return Expected::Disposed(request);
        }
        let newest = of.chain.iter().rfind(|entry| entry.kind == "reprioritised");
        if newest.is_some_and(|entry| entry.priority == to && entry.is_by(&by, reason)) {
            Expected::Disposed(request)
        } else {
            Expected::Problem(409, "conflict")
        }
    }

    pub(super) fn requeue(&mut self, request: usize, who: &str, reason: &'static str) -> Expected {
        let of = &self.requests[request];
        let Some(delivery) = of.delivery.as_ref().filter(|delivery| delivery.state != "acknowledged") else {
            return Expected::Problem(409, "conflict");
        };
        if delivery.requeued != Some((of.chain.len(), who.to_owned(), Some(reason))) {
            self.redeliver(request, who, Some(reason));
            self.mark_requeued(request, who, Some(reason));
        }
        Expected::Disposed(request)
    }

    pub(super) fn mark_requeued(&mut self, request: usize, who: &str, reason: Option<&'static str>) {
        let of = &mut self.requests[request];
        let length = of.chain.len();
        if let Some(delivery) = &mut of.delivery {
            delivery.requeued = Some((length, who.to_owned(), reason));
        }
    }
}
