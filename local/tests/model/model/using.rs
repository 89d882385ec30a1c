//! Permits: approvals that are used, and what is said of their use.

use super::{AGENTS, Expected, Flavour, LISTED_FOR, Micros, Model, Noted, OUTCOME_WITHIN, Request, Use, system};
use crate::commands::{AckResult, Runs};

/// The arguments that are asked for; another number is an edit.
pub const ASKED: u8 = 0;

/// The RFC 8785 form of an action.
pub fn action(flavour: Flavour, arguments: u8) -> String {
    let (amount, of) = (if arguments == ASKED { "12.40" } else { "9.00" }, flavour.action_type());
    format!(r#"{{"arguments":{{"amount":"{amount}","currency":"EUR"}},"type":"{of}"}}"#)
}

impl Request {
    /// The arguments that are approved, or asked for.
    pub fn decided_arguments(&self) -> u8 {
        self.decision.as_ref().and_then(|decision| decision.edited_to).unwrap_or(ASKED)
    }

    /// The arguments that an attempt has at hand; `None`: those of no request.
    pub fn runs(&self, what: Runs) -> Option<u8> {
        match what {
            Runs::Approved => Some(self.decided_arguments()),
            Runs::Asked => Some(ASKED),
            Runs::Another => None,
        }
    }

    /// How far the use of its permit is.
    pub fn execution(&self, now: Micros) -> &'static str {
        match (&self.noted, &self.used, self.permit_expires_at) {
            (Some(noted), ..) => noted.state,
            (None, Some(_), _) => "consumed",
            (None, None, Some(end)) if now < end => "waiting",
            (None, None, Some(_)) => "unused",
            (None, None, None) => "none",
        }
    }

    /// Whether its approval has to be used before it is accepted, and still may be.
    pub(super) fn is_to_be_used(&self, now: Micros) -> bool {
        self.consume_required && self.execution(now) == "waiting"
    }
}

impl Model {
    pub(super) fn consume(&mut self, request: usize, is_own: bool, key: u8, what: Runs) -> Expected {
        if !is_own {
            return Expected::Problem(404, "not-found");
        }
        let (now, of) = (self.now, &self.requests[request]);
        let is_approved_action = of.runs(what) == Some(of.decided_arguments());
        let refused = match (&of.used, of.permit_expires_at) {
            (Some(used), _) if used.key != key => Some("already-consumed"),
            // The same attempt, whatever it has at hand: it is told what was approved.
            (Some(_), _) => return Expected::Used { request, repeated: true },
            (None, None) => Some("not-approved"),
            (None, Some(_)) if !is_approved_action => Some("action-mismatch"),
            (None, Some(end)) if now >= end => Some("permit-expired"),
            (None, Some(_)) => None,
        };
        if let Some(code) = refused {
            return Expected::Problem(409, code);
        }
        let agent = AGENTS[of.agent];
        self.append(request, "consumed", ("agent", agent.to_owned()), None);
        let of = &mut self.requests[request];
        of.used = Some(Use { key, at: now });
        of.outcome_due = Some(now + OUTCOME_WITHIN);
        if let Some(delivery) = of.delivery.as_mut().filter(|delivery| delivery.state != "acknowledged") {
            delivery.state = "acknowledged";
            delivery.result = Some(AckResult::Accepted);
        }
        self.resolve(request, "acknowledged", agent, None);
        Expected::Used { request, repeated: false }
    }

    pub(super) fn report(&mut self, request: usize, is_own: bool, noted: Noted) -> Expected {
        if !is_own {
            return Expected::Problem(404, "not-found");
        }
        let of = &mut self.requests[request];
        match &of.noted {
            _ if of.used.is_none() => return Expected::Problem(409, "not-consumed"),
            Some(before) if *before == noted => return Expected::Noted { request, repeated: true },
            Some(before) if before.state != "unknown" => return Expected::Problem(409, "outcome-conflict"),
            _ => {}
        }
        (of.noted, of.outcome_due) = (Some(noted), None);
        let agent = AGENTS[of.agent].to_owned();
        self.append(request, "outcome", ("agent", agent), None);
        Expected::Noted { request, repeated: false }
    }

    /// Nobody has said in time what became of it: listed for a week.
    pub(super) fn become_unknown(&mut self, request: usize) -> bool {
        let of = &mut self.requests[request];
        if of.outcome_due.is_none_or(|due| due > self.now) {
            return false;
        }
        if of.noted.as_ref().is_some_and(|noted| noted.state == "unknown") {
            // It was listed for a week, and is forgotten.
            of.outcome_due = None;
            return false;
        }
        (of.noted, of.outcome_due) = (Some(Noted { state: "unknown", note: None }), Some(self.now + LISTED_FOR));
        self.append(request, "outcome", system(), None);
        true
    }
}
