//! Decision Record v0: nine criteria, each with its number, its bound and what was measured
//! (docs/reports/decision-record-v0.md). A violation that anybody saw is a violation; what was not measured is not met.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::audit::{Audit, Stored};
use super::ledger::{Book, Handoff};
use super::plan::Planned;
use super::proofs::{Offline, Tampered};
use super::scenario::{Behaviour, Scenario};

/// Number, name and bound of each. 0 is beyond the nine: what hostile and buggy agents sent.
pub const CRITERIA: [(u8, &str, &str); 10] = [
    (1, "nothing that got a 2xx is lost", "0 missing"),
    (2, "exactly one decision", "0 doubled, 0 changed"),
    (3, "every decision reaches its agent", "100 % acknowledged or dead-lettered, 0 silent"),
    (4, "from the decision to the long-polling agent", "p50 ≤ 10 ms, p99 ≤ 50 ms"),
    (5, "timeouts", "0 early, 100 % by the first sweep after respond_by"),
    (6, "repeated submissions", "0 second requests, every changed envelope refused"),
    (7, "authentic responses", "100 % verify, 100 % of the tampered rejected"),
    (8, "chains and receipts", "100 % verify, every changed byte found and located"),
    (9, "calls of a handoff", "1 submission, 1 acknowledgement, ≤ 1 + ⌈waiting / 20 s⌉ polls"),
    (0, "beyond the nine", "hostile and malformed calls refused, nobody gave up"),
];

/// A scenario's result for a criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Measured, and within its bound.
    Pass,
    /// Measured, and not; or to be measured, and not.
    Fail,
    /// Not measured in this scenario. It says nothing.
    NotMeasured,
}

/// A criterion in a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Its number in the decision record.
    pub criterion: u8,
    /// Its subject.
    pub name: String,
    /// Its bound.
    pub bound: String,
    /// The measured value, with its unit.
    pub value: String,
    /// Whether that is within the bound.
    pub state: State,
    /// The first thing that shows that it is not.
    pub first_failure: Option<String>,
}

/// The evidence for the nine criteria.
pub struct Evidence<'a> {
    pub scenario: &'a Scenario,
    pub plan: &'a [Planned],
    pub book: &'a Book,
    /// None where the run did not come to its end.
    pub audit: Option<&'a Audit>,
    pub tampered: &'a Tampered,
    pub offline: &'a Offline,
    /// How far our clock may differ from the service's.
    pub clocks: TimeDelta,
    /// The run did not come to its end: nothing is missed by not having been measured.
    pub is_cut_short: bool,
}

/// What was measured of one criterion: how much, in words, and what is wrong.
struct Measured {
    count: u64,
    value: String,
    failures: Vec<String>,
}

/// Judges each criterion.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Verdict> {
    let verdicts = CRITERIA.map(|(criterion, name, bound)| {
        let mut measured = measure(evidence, criterion);
        let seen = evidence.book.violations.iter().filter(|violation| violation.criterion == criterion);
        measured.failures.extend(seen.map(|violation| violation.what.clone()));
        let must = evidence.scenario.criteria.contains(&criterion) && !evidence.is_cut_short;
        let state = match (measured.failures.len(), measured.count) {
            (1.., _) => State::Fail,
            (0, 0) if must => State::Fail,
            (0, 0) => State::NotMeasured,
            // Half a run proves nothing.
            (0, 1..) if evidence.is_cut_short => State::NotMeasured,
            (0, 1..) => State::Pass,
        };
        let value = match state {
            State::NotMeasured => "not measured in this scenario".to_owned(),
            State::Fail if measured.count == 0 && measured.failures.is_empty() => "nothing was measured".to_owned(),
            _ => measured.value,
        };
        let value = match measured.failures.len() {
            0 => value,
            failures => format!("{failures} × FAILED; {value}"),
        };
        let (name, bound) = (name.to_owned(), bound.to_owned());
        Verdict { criterion, name, bound, value, state, first_failure: measured.failures.into_iter().next() }
    });
    verdicts.into()
}

fn measure(evidence: &Evidence<'_>, criterion: u8) -> Measured {
    match criterion {
        1 => nothing_lost(evidence),
        2 => one_decision(evidence),
        3 => every_decision_arrives(evidence),
        4 => decision_to_agent(evidence),
        5 => timeouts(evidence),
        6 => repeated_submissions(evidence),
        7 => authentic_responses(evidence),
        8 => chains_and_receipts(evidence),
        9 => calls_of_a_handoff(evidence),
        _ => refusals(evidence),
    }
}

/// Handoffs whose request was read back, and that.
fn read_back<'a>(evidence: &'a Evidence<'_>) -> impl Iterator<Item = (&'a Handoff, &'a Stored)> {
    let stored = evidence.audit.into_iter().flat_map(|audit| audit.stored.values());
    stored.map(|stored| (&evidence.book.handoffs[stored.index], stored))
}

fn counted(evidence: &Evidence<'_>, what: &str) -> u64 {
    evidence.book.counts.get(what).copied().unwrap_or_default()
}

fn nothing_lost(evidence: &Evidence<'_>) -> Measured {
    let missing = evidence.audit.map_or(&[][..], |audit| &audit.missing);
    let mut failures: Vec<_> = missing.iter().map(|(_, id)| format!("{id} was accepted and is not there")).collect();
    let mut count = missing.len() as u64;
    for (_, stored) in read_back(evidence) {
        count += 1;
        failures.extend(stored.differs.as_ref().map(|differs| format!("{}: {differs}", stored.request_id)));
    }
    Measured { count, value: format!("{} of {count} accepted requests missing", missing.len()), failures }
}

fn one_decision(evidence: &Evidence<'_>) -> Measured {
    let (mut decided, mut races) = (0, 0);
    let mut failures = Vec::new();
    for (handoff, stored) in read_back(evidence) {
        let id = stored.request_id;
        let Some((decision, _)) = &stored.decision else { continue };
        decided += 1;
        races += u64::from(evidence.plan[stored.index].answer == super::plan::Answer::Race);
        if handoff.winners.len() > 1 {
            failures.push(format!("{id}: {} operators were told that they decided", handoff.winners.len()));
        }
        if stored.decided_entries != 1 {
            failures.push(format!("{id}: {} decisions in its chain", stored.decided_entries));
        }
        if let Some(other) = handoff.told.iter().find(|told| *told != decision) {
            failures.push(format!("{id}: told “{other}”, stands “{decision}”"));
        }
    }
    let value = format!("{decided} decisions ({races} raced for): {} doubled or changed", failures.len());
    Measured { count: decided, value, failures }
}

fn every_decision_arrives(evidence: &Evidence<'_>) -> Measured {
    let [mut acknowledged, mut dead_lettered] = [0_u64; 2];
    let mut failures = Vec::new();
    for (handoff, stored) in read_back(evidence) {
        let id = stored.request_id.to_string();
        match (&stored.decision, stored.delivery.as_str()) {
            (Some(_), "acknowledged") => acknowledged += 1,
            (Some(_), "dead_lettered") if evidence.audit.is_some_and(|audit| audit.dead_letters.contains(&id)) => {
                dead_lettered += 1;
            }
            (Some(_), state) => {
                failures.push(format!("{id}: its delivery is {state:?}; the agent: {:?}", handoff.gave_up));
            }
            // Its agent waits, and nobody will answer.
            (None, _) => failures.push(format!("{id} was never decided; the agent: {:?}", handoff.gave_up)),
        }
    }
    let silent = failures.len();
    let value = format!("{acknowledged} acknowledged, {dead_lettered} visibly dead-lettered, {silent} silent");
    Measured { count: acknowledged + dead_lettered, value, failures }
}

/// Times from an operator's decision to the agent, each from the moment when the decision was due.
pub fn decision_times(book: &Book) -> Option<Histogram<u64>> {
    let mut times = Histogram::new_with_bounds(1, 600_000_000, 3).ok()?;
    for took in book.handoffs.iter().filter_map(|handoff| handoff.took) {
        times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    }
    (!times.is_empty()).then_some(times)
}

fn decision_to_agent(evidence: &Evidence<'_>) -> Measured {
    let nothing = Measured { count: 0, value: String::new(), failures: Vec::new() };
    if !evidence.scenario.criteria.contains(&4) {
        return nothing;
    }
    let Some(times) = decision_times(evidence.book) else { return nothing };
    let (p50, p99) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
    let mut failures = Vec::new();
    for (name, value, bound) in [("p50", p50, 10_000), ("p99", p99, 50_000)] {
        if value > bound {
            failures.push(format!("{name} is {}, more than {} ms", milliseconds(value), bound / 1_000));
        }
    }
    let value = format!("p50 {}, p99 {} of {} decisions", milliseconds(p50), milliseconds(p99), times.len());
    Measured { count: times.len(), value, failures }
}

/// Microseconds in words, rounded up.
pub fn milliseconds(micros: u64) -> String {
    format!("{}.{:02} ms", micros.div_ceil(10) / 100, micros.div_ceil(10) % 100)
}

fn timeouts(evidence: &Evidence<'_>) -> Measured {
    let (mut timed_out, mut early, mut late) = (0_u64, 0_u64, 0_u64);
    let mut failures = Vec::new();
    for (_, stored) in read_back(evidence) {
        let (id, Some(respond_by)) = (stored.request_id, stored.respond_by) else { continue };
        let first = first_sweep_after(evidence, respond_by);
        match &stored.decision {
            Some((decision, at)) if decision.cause == "timeout" => {
                timed_out += 1;
                if *at < respond_by {
                    early += 1;
                    failures.push(format!("{id} timed out at {at}, its respond_by is {respond_by}"));
                }
                if first.is_some_and(|ended| *at > ended + evidence.clocks) {
                    late += 1;
                    failures
                        .push(format!("{id} timed out at {at}, after the first sweep that began after {respond_by}"));
                }
            }
            Some((decision, at)) if decision.cause == "operator" && *at >= respond_by => {
                failures.push(format!("{id} was decided by an operator at {at}, after {respond_by}"));
            }
            None if first.is_some() => failures.push(format!("{id} is pending, and a sweep began after {respond_by}")),
            _ => {}
        }
    }
    let [tried, refused] =
        ["approvals after the deadline", "approvals after the deadline refused"].map(|what| counted(evidence, what));
    if refused < tried {
        failures.push(format!("{} approvals after the deadline were not refused", tried - refused));
    }
    let value = format!(
        "{timed_out} timed out: {early} early, {late} after the first sweep; {refused} of {tried} late approvals refused"
    );
    Measured { count: timed_out, value, failures }
}

/// When the first sweep ended that began after this moment.
fn first_sweep_after(evidence: &Evidence<'_>, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let after = evidence.book.sweeps.iter().filter(|sweep| sweep.began >= moment + evidence.clocks);
    after.min_by_key(|sweep| sweep.began).map(|sweep| sweep.ended)
}

fn repeated_submissions(evidence: &Evidence<'_>) -> Measured {
    let repeats = counted(evidence, "repeated submissions answered");
    let [changed, refused] = ["changed envelopes", "changed envelopes refused"].map(|what| counted(evidence, what));
    let doubled = evidence.book.handoffs.iter().filter(|handoff| handoff.ids.len() > 1);
    let failures: Vec<_> = doubled
        .map(|handoff| format!("{} of {} has the ids {:?}", handoff.client_request_key, handoff.agent_id, handoff.ids))
        .collect();
    let value = format!(
        "{repeats} repeats made {} second requests; {refused} of {changed} changed envelopes refused",
        failures.len()
    );
    Measured { count: repeats + refused, value, failures }
}

fn authentic_responses(evidence: &Evidence<'_>) -> Measured {
    let verified = counted(evidence, "agents' responses verified");
    let Tampered { accepted, tried, passed } = evidence.tampered;
    let mut failures: Vec<_> = passed.iter().map(|what| format!("accepted by the verifier: {what}")).collect();
    let samples = evidence.book.samples.len() as u64;
    if evidence.audit.is_some() && *accepted != samples {
        failures.push(format!("{} of {samples} untouched samples do not verify again", samples - accepted));
    }
    let unverified = evidence.book.violations.iter().filter(|violation| violation.criterion == 7).count();
    let unsigned = counted(evidence, "unsigned 401, 502, 503 or 504 (caller not known)");
    let value = format!(
        "{verified} responses verified, {unverified} did not ({unsigned} unsigned 401/502/503/504 to callers not known); \
         {} of {tried} tampered, replayed or misdirected accepted",
        passed.len()
    );
    Measured { count: if *tried > 0 { verified } else { 0 }, value, failures }
}

fn chains_and_receipts(evidence: &Evidence<'_>) -> Measured {
    let Offline { checked, broken, bytes, recomputed, recomputed_missed } = evidence.offline;
    let mut failures = broken.clone();
    failures.extend(bytes.missed.clone());
    if bytes.located < bytes.tried {
        failures.push(format!("{} changed bytes were not found or not located", bytes.tried - bytes.located));
    }
    if *recomputed_missed > 0 {
        failures.push(format!("{recomputed_missed} recomputed chains verify against their receipt"));
    }
    if *checked > 0 && bytes.tried == 0 {
        failures.push("no chain verifies of which a byte could be changed".to_owned());
    }
    let value = format!(
        "{} of {checked} chains with receipts verify; {} of {} changed bytes found, {} located; {} of {recomputed} \
         recomputed chains found",
        checked - broken.len() as u64,
        bytes.found,
        bytes.tried,
        bytes.located,
        recomputed - recomputed_missed
    );
    Measured { count: *checked, value, failures }
}

fn calls_of_a_handoff(evidence: &Evidence<'_>) -> Measured {
    let (mut handoffs, mut most_polls) = (0, 0);
    let mut failures = Vec::new();
    if evidence.scenario.criteria.contains(&9) {
        for (planned, handoff) in evidence.plan.iter().zip(&evidence.book.handoffs) {
            let Handoff { submissions, polls, acknowledgements, waited, .. } = handoff;
            if planned.behaviour != Behaviour::Patient || handoff.request_id.is_none() || !handoff.is_over {
                continue;
            }
            handoffs += 1;
            most_polls = most_polls.max(*polls);
            if (*submissions, *acknowledgements) != (1, 1) || *polls > most_polls_in(*waited) {
                let key = &handoff.client_request_key;
                failures.push(format!(
                    "{key}: {submissions} submissions, {polls} polls in {waited:?}, {acknowledgements} acknowledgements"
                ));
            }
        }
    }
    let over = failures.len();
    let value = format!("{over} of {handoffs} patient agents' handoffs needed more; {most_polls} polls at the most");
    Measured { count: handoffs, value, failures }
}

/// 1 + ⌈waiting / 20 s⌉.
fn most_polls_in(waited: Duration) -> u32 {
    1 + u32::try_from(waited.as_nanos().div_ceil(20_000_000_000)).unwrap_or(u32::MAX - 1)
}

fn refusals(evidence: &Evidence<'_>) -> Measured {
    let [calls, refused, late] =
        ["hostile and malformed calls", "hostile and malformed calls refused", "late acknowledgements"]
            .map(|what| counted(evidence, what));
    let value = format!("{refused} of {calls} hostile or malformed calls refused; {late} late acknowledgements");
    // One that could not ask in time may go; whoever was told an id is judged by the third criterion.
    let gave_up = evidence.plan.iter().zip(&evidence.book.handoffs).filter_map(|(planned, handoff)| {
        let why = handoff.gave_up.as_ref().filter(|_| handoff.request_id.is_none() && !planned.answer.is_too_late())?;
        Some(format!("{} could not ask: {why}", handoff.agent_id))
    });
    Measured { count: calls, value, failures: gave_up.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_bounded_by_the_time_waited_and_times_are_rounded_up() {
        let bounds = [0, 1, 20_000, 20_001, 40_000].map(|millis| most_polls_in(Duration::from_millis(millis)));
        assert_eq!(bounds, [1, 2, 2, 3, 3]);
        assert_eq!(milliseconds(10_001), "10.01 ms");
        assert_eq!(milliseconds(9_990), "9.99 ms");
    }
}
