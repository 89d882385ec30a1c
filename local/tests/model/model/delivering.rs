//! Handing decisions to agents, and sending them again.

use super::{
    AGENTS, CLAIM, DAY, Expected, LEASE, Letter, MAX_ATTEMPTS, Micros, Model, OWN_TIME, Period, Replay, Request,
    SECOND, is_told, longest_backoff,
};
use crate::commands::{AckResult, Named, Scope};

impl Model {
    /// Ready at once, for another day; what was open as a dead letter is resolved by it.
    pub(super) fn redeliver(&mut self, request: usize, who: &str, reason: Option<&'static str>) {
        self.append(request, "replayed", ("admin", who.to_owned()), reason);
        let now = self.now;
        if let Some(delivery) = &mut self.requests[request].delivery {
            delivery.state = "ready";
            delivery.is_replayed = true;
            delivery.visible = (now, now);
            delivery.expires_at = now + DAY;
        }
        self.resolve(request, "retried", who, reason);
    }

    pub(super) fn resolve(&mut self, request: usize, how: &'static str, who: &str, reason: Option<&'static str>) {
        let open = self.letters.iter_mut().find(|letter| letter.request == request && letter.resolution.is_none());
        if let Some(letter) = open {
            letter.resolution = Some((how, who.to_owned(), reason));
        }
    }

    pub(super) fn due(&self, agent: usize, only: Option<usize>) -> Vec<usize> {
        let is_due = |request: &&usize| {
            let of = &self.requests[**request];
            let is_asked_for = of.agent == agent && only.is_none_or(|only| only == **request);
            is_asked_for
                && of
                    .delivery
                    .as_ref()
                    .is_some_and(|d| d.is_open() && d.visible.1 <= self.now && d.expires_at > self.now)
        };
        let all: Vec<usize> = (0..self.requests.len()).collect();
        let mut due: Vec<_> = all.iter().filter(is_due).copied().collect();
        due.sort_by_key(|request| self.visible_since(*request));
        due
    }

    /// From when on a poll may take its decision.
    pub fn visible_since(&self, request: usize) -> Micros {
        self.requests[request].delivery.as_ref().map_or(Micros::MAX, |delivery| delivery.visible.0)
    }

    /// A poll has taken it.
    pub fn lease(&mut self, request: usize) {
        let now = self.now;
        let Some(delivery) = &mut self.requests[request].delivery else { return };
        let end = now + LEASE;
        delivery.visible = (end, end + longest_backoff(delivery.attempt));
        delivery.attempt += 1;
        delivery.state = "leased";
        delivery.result = None;
        if delivery.attempt >= MAX_ATTEMPTS {
            delivery.visible = (end, end);
            delivery.expires_at = delivery.expires_at.min(end);
        }
    }

    pub(super) fn acknowledge(&mut self, request: usize, is_own: bool, named: Named, result: AckResult) -> Expected {
        if !is_own {
            return Expected::Problem(404, "not-found");
        }
        let (now, agent) = (self.now, AGENTS[self.requests[request].agent]);
        let is_used = self.requests[request].used.is_some();
        let is_to_be_used = self.requests[request].is_to_be_used(now);
        if is_used && result != AckResult::Accepted {
            return Expected::Problem(409, "already-consumed");
        }
        let Some(delivery) = &mut self.requests[request].delivery else {
            return Expected::Problem(409, "stale-delivery");
        };
        let is_latest = named == Named::Latest && !delivery.ids.is_empty();
        if !is_latest && is_used {
            // It has arrived, whichever attempt that was.
            return Expected::Acked(request);
        }
        if !is_latest {
            return Expected::Problem(409, "stale-delivery");
        }
        // Said once; but accepted wins over retry and failed.
        let is_said = delivery.result == Some(AckResult::Accepted);
        if is_said || delivery.result.is_some() && result != AckResult::Accepted {
            return Expected::Acked(request);
        }
        if is_to_be_used && result == AckResult::Accepted {
            return Expected::Problem(409, "not-consumed");
        }
        let before = delivery.state;
        delivery.result = Some(result);
        delivery.state = match result {
            AckResult::Accepted => "acknowledged",
            AckResult::Failed => "dead_lettered",
            AckResult::Retry if delivery.attempt >= MAX_ATTEMPTS || before == "dead_lettered" => "dead_lettered",
            AckResult::Retry => "ready",
        };
        if delivery.state == "ready" {
            delivery.visible = (now, now + longest_backoff(delivery.attempt - 1));
        } else if delivery.state != before {
            let (state, attempts) = (delivery.state, delivery.attempt);
            self.append(request, state, ("agent", agent.to_owned()), None);
            match result {
                AckResult::Accepted => self.resolve(request, "acknowledged", agent, None),
                AckResult::Retry => self.set_aside(request, "attempts_exhausted", attempts),
                AckResult::Failed => self.set_aside(request, "agent_failed", attempts),
            }
        }
        Expected::Acked(request)
    }

    pub(super) fn set_aside(&mut self, request: usize, cause: &'static str, attempts: i32) {
        self.letters.push(Letter { id: None, request, cause, attempts, resolution: None });
    }

    pub(super) fn retry(&mut self, letter: usize, who: &str) -> Expected {
        let request = self.letters[letter].request;
        match self.letters[letter].resolution {
            None => {
                self.redeliver(request, who, None);
                self.mark_requeued(request, who, None);
                Expected::Letter(letter)
            }
            Some(("retried", ..)) => Expected::Letter(letter),
            Some(_) => Expected::Problem(409, "conflict"),
        }
    }

    pub(super) fn discard(&mut self, letter: usize, who: &str, reason: &'static str) -> Expected {
        let resolution = &mut self.letters[letter].resolution;
        match resolution {
            None => *resolution = Some(("discarded", who.to_owned(), Some(reason))),
            Some(("discarded", ..)) => {}
            Some(_) => return Expected::Problem(409, "conflict"),
        }
        Expected::Letter(letter)
    }

    pub(super) fn replay(
        &mut self,
        key: u8,
        of_events: bool,
        scope: &Scope,
        reason: &'static str,
        is_dry_run: bool,
    ) -> Expected {
        if matches!(scope, Scope::Requests(_)) && self.requests.is_empty() {
            return Expected::Nothing;
        }
        // What a scope means depends on the time and on what there is; the order is what was sent.
        let order = format!("{of_events} {:?} {reason} {is_dry_run}", self.scope(scope));
        if let Some(Replay { order: ordered, matched, done }) = self.replays.get(&key) {
            return if *ordered == order {
                Expected::Replayed { matched: *matched, done: *done }
            } else {
                Expected::Problem(409, "conflict")
            };
        }
        let items = if of_events { self.events_in(scope) } else { self.deliveries_in(scope) };
        let done = if is_dry_run { 0 } else { items.len() };
        if !is_dry_run {
            for (request, seq) in &items {
                if of_events {
                    self.outbox.entry((*request, *seq)).or_insert(self.now + OWN_TIME);
                } else {
                    self.redeliver(*request, "root", Some(reason));
                    // Ordered again one by one, by the same person with the same reason, it is done.
                    self.mark_requeued(*request, "root", Some(reason));
                }
            }
        }
        self.replays.insert(key, Replay { order, matched: items.len(), done });
        Expected::Replayed { matched: items.len(), done }
    }

    /// The requests that a scope names, each once, or the period that it is: from, to, and of which agent.
    pub fn scope(&self, scope: &Scope) -> (Vec<usize>, Option<Period>) {
        match scope {
            Scope::Requests(numbers) => {
                let mut named: Vec<_> =
                    numbers.iter().filter_map(|number| usize::from(*number).checked_rem(self.requests.len())).collect();
                named.sort_unstable();
                named.dedup();
                (named, None)
            }
            Scope::DeadLetters => (Vec::new(), None),
            Scope::Period(minutes, agent) => {
                let from = self.now - i64::from(*minutes) * 60 * SECOND;
                (Vec::new(), Some((from, self.now + SECOND, *agent)))
            }
        }
    }

    pub(super) fn open_letters(&self) -> Vec<usize> {
        self.letters.iter().filter(|letter| letter.resolution.is_none()).map(|letter| letter.request).collect()
    }

    pub(super) fn deliveries_in(&self, scope: &Scope) -> Vec<(usize, usize)> {
        let (named, period) = self.scope(scope);
        let requests = match (scope, period) {
            (Scope::Requests(_), _) => named,
            (Scope::DeadLetters, _) => self.open_letters(),
            (_, period) => {
                let (from, _, agent) = period.unwrap_or_default();
                let is_in = |request: &Request| {
                    let is_waiting = request.delivery.as_ref().is_some_and(|delivery| delivery.state != "acknowledged");
                    let is_decided = request.decision.as_ref().is_some_and(|d| d.at >= from && d.at <= self.now);
                    is_waiting && is_decided && agent.is_none_or(|agent| agent == request.agent)
                };
                (0..self.requests.len()).filter(|request| is_in(&self.requests[*request])).collect()
            }
        };
        requests.into_iter().filter(|request| self.requests[*request].is_decided).map(|request| (request, 0)).collect()
    }

    pub(super) fn events_in(&self, scope: &Scope) -> Vec<(usize, usize)> {
        let (named, period) = self.scope(scope);
        let (from, _, agent) = period.unwrap_or((Micros::MIN, Micros::MAX, None));
        let requests = match scope {
            Scope::Requests(_) => named,
            Scope::DeadLetters => self.open_letters(),
            Scope::Period(..) => (0..self.requests.len()).collect(),
        };
        let requests = requests.into_iter().filter(|request| agent.is_none_or(|a| a == self.requests[*request].agent));
        let events = requests.flat_map(|request| {
            let entries = self.requests[request].chain.iter().enumerate();
            let told = entries.filter(|(_, entry)| is_told(entry.kind) && entry.at >= from);
            told.map(move |(index, _)| (request, index + 1)).collect::<Vec<_>>()
        });
        events.collect()
    }

    pub(super) fn publish(&mut self, dies: bool) -> Expected {
        let now = self.now;
        let due: Vec<_> = self.outbox.iter().filter(|(_, until)| **until <= now).map(|(event, _)| *event).collect();
        for event in &due {
            if dies {
                self.outbox.insert(*event, now + CLAIM);
            } else {
                self.outbox.remove(event);
            }
        }
        Expected::Published(due)
    }

    /// All that ever was to be told.
    pub fn all_events(&self) -> Vec<(usize, usize)> {
        let all = self.requests.iter().enumerate();
        all.flat_map(|(request, of)| {
            let told = of.chain.iter().enumerate().filter(|(_, entry)| is_told(entry.kind));
            told.map(move |(index, _)| (request, index + 1)).collect::<Vec<_>>()
        })
        .collect()
    }
}
