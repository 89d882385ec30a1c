//! The table.

use std::fmt;

use super::cpu::Usage;
use super::handoffs::Handoffs;
use super::kind::Kind;
use super::latency::Latency;
use super::load::SAMPLE;
use super::memory::Memory;
use super::named::{self, Rates};
use super::rows::ENVELOPE_BYTES;
use super::rules::{self, BesideRules};
use super::stream::Stream;
use super::trial::Trial;

/// What is left of the rate with the fewest stored requests, at the least.
const GROWTH_BOUND: f64 = 0.9;
/// Whole handoffs per second, at the least.
const HANDOFFS_BOUND: f64 = 3_000.0;

/// One measurement of one side.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub per_second: f64,
    /// Milliseconds of CPU for a call.
    pub usage: Option<Usage>,
}

/// A kind of call, measured.
#[derive(Clone, Debug)]
pub struct Row {
    pub kind: Kind,
    pub connections: usize,
    pub service: Vec<Sample>,
    pub floor: Vec<Sample>,
    /// Rows that pgbench wrote while it was measured.
    pub floor_rows: u64,
    /// Events, at the most, that the service had not published when its load ended.
    pub behind: u64,
    /// Answers of the service that were verified.
    pub verified: u64,
}

/// Kinds of calls, measured under the same conditions.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub name: String,
    pub rows: Vec<Row>,
    /// Bounds are for the usual conditions.
    pub has_bounds: bool,
    /// Requests stored before, where that is what was measured.
    pub stored: Option<u64>,
}

/// What is left of the rates with the fewest stored requests.
struct Growth<'a> {
    stored: u64,
    kind: &'a Kind,
    service: f64,
    floor: f64,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub seconds: u64,
    pub runs: u64,
    pub tables: Vec<Table>,
    pub handoffs: Vec<Handoffs>,
    /// Polls that name a request, beside few and many decisions that are due.
    pub named: Vec<Rates>,
    pub rules: Option<BesideRules>,
    /// With consume and outcome in place of the acknowledgement, by turns with those.
    pub used_handoffs: Vec<Handoffs>,
    pub latencies: Vec<Latency>,
    pub stream: Option<Stream>,
    /// A draft of rules over stored requests.
    pub trial: Option<Trial>,
    /// At the end.
    pub memory: Option<Memory>,
    /// Of a fresh stack, by the number of parked agents.
    pub parked: Vec<(usize, Memory)>,
    /// Milliseconds for pages of the queue, by the number of stored requests.
    pub queues: Vec<(u64, Vec<(&'static str, f64)>)>,
}

impl Row {
    /// Nothing measured yet.
    pub fn new(kind: Kind, connections: usize) -> Self {
        Self { kind, connections, service: Vec::new(), floor: Vec::new(), floor_rows: 0, behind: 0, verified: 0 }
    }

    fn ratio(&self) -> f64 {
        rate(&self.service) / rate(&self.floor).max(1.0)
    }

    fn is_met(&self) -> bool {
        self.kind.bound(self.connections).is_none_or(|bound| self.ratio() >= bound)
    }
}

impl Report {
    /// Whether no bound is missed.
    pub fn is_met(&self) -> bool {
        self.tables.iter().filter(|table| table.has_bounds).flat_map(|table| &table.rows).all(Row::is_met)
            && self.latencies.iter().all(Latency::is_met)
            && self
                .parked
                .iter()
                .all(|(agents, memory)| parked_bound(*agents).is_none_or(|bound| memory.service <= bound))
            && self.named_ratio().is_none_or(|ratio| ratio >= named::BOUND)
            && self.rules_ratio().is_none_or(|ratio| ratio >= rules::BOUND)
            && (self.handoffs.is_empty() || per_second(&self.handoffs) >= HANDOFFS_BOUND)
            && self.trial.as_ref().is_none_or(Trial::is_met)
            && self.growth().all(|growth| growth.service >= GROWTH_BOUND)
    }

    /// What is left of the rate beside few where many are due: the median of the runs, whose halves were side by side.
    fn named_ratio(&self) -> Option<f64> {
        ratio_of(&self.named)
    }

    /// What is left of the rate without rules where 100 are in force.
    fn rules_ratio(&self) -> Option<f64> {
        ratio_of(&self.rules.as_ref()?.rates)
    }

    fn growth(&self) -> impl Iterator<Item = Growth<'_>> {
        let mut tables = self.tables.iter().filter_map(|table| Some((table.stored?, &table.rows)));
        let first = tables.next().map_or(&[][..], |(_, rows)| rows);
        tables.flat_map(move |(stored, rows)| {
            rows.iter().zip(first).map(move |(row, first)| {
                let left = |of: fn(&Row) -> &[Sample]| rate(of(row)) / rate(of(first)).max(1.0);
                Growth { stored, kind: &row.kind, service: left(|row| &row.service), floor: left(|row| &row.floor) }
            })
        })
    }
}

/// What is left of the first rate by the second: the median of the pairs.
fn ratio_of(pairs: &[Rates]) -> Option<f64> {
    let ratios = pairs.iter().map(|[first, second]| second / first.max(1.0));
    (!pairs.is_empty()).then(|| middle(ratios.collect()))
}

/// The most MiB that the service may hold with so many agents parked; of more there is none.
fn parked_bound(agents: usize) -> Option<f64> {
    match agents {
        ..=200 => Some(32.0),
        201..=5_000 => Some(160.0),
        _ => None,
    }
}

fn rate(samples: &[Sample]) -> f64 {
    median(samples, |sample| sample.per_second)
}

fn median(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    middle(samples.iter().map(value).collect())
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{} s each, median of {}; {ENVELOPE_BYTES}-byte envelopes", self.seconds, self.runs)?;
        for table in &self.tables {
            table.fmt_rates(f)?;
            table.fmt_usage(f)?;
        }
        let rows = || self.tables.iter().flat_map(|table| &table.rows);
        let verified: u64 = rows().map(|row| row.verified).sum();
        writeln!(
            f,
            "\nOf the service's answers 1 in {SAMPLE} was looked at, agents' with its signature: {verified}, all good."
        )?;
        let behind: Vec<_> = rows().filter(|row| row.behind > 0).collect();
        if !behind.is_empty() {
            let counts: Vec<_> = behind.iter().map(|row| format!("{} {}", row.kind.name(), row.behind)).collect();
            writeln!(f, "Events that were published only after the load, at the most: {}.", counts.join(", "))?;
        }
        self.fmt_named(f)?;
        self.fmt_rules(f)?;
        self.fmt_handoffs(f)?;
        self.fmt_latencies(f)?;
        if let Some(trial) = &self.trial {
            writeln!(f, "\n{trial}  {}", verdict(trial.is_met()))?;
        }
        if let Some(Stream { pipelined, one_by_one }) = self.stream {
            writeln!(f, "\nNATS alone, acknowledged: {pipelined:.0}/s pipelined, {one_by_one:.0}/s one at a time")?;
        }
        self.fmt_memory(f)?;
        self.fmt_growth(f)
    }
}

fn per_second(handoffs: &[Handoffs]) -> f64 {
    middle(handoffs.iter().map(|handoffs| handoffs.per_second).collect())
}

fn fmt_usage(f: &mut fmt::Formatter<'_>, handoffs: &Handoffs) -> fmt::Result {
    let Some(Usage { service, postgres, nats, client }) = handoffs.usage else { return Ok(()) };
    writeln!(f, "CPU, ms for each: service {service:.3}, Postgres {postgres:.3}, NATS {nats:.3}, client {client:.3}")
}

impl Report {
    fn fmt_rules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(ratio), Some(measured)) = (self.rules_ratio(), &self.rules) else { return Ok(()) };
        let of = |side: usize| middle(measured.rates.iter().map(|rates| rates[side]).collect());
        let ([waiting, approved], runs) = (measured.p50, measured.rates.len());
        writeln!(
            f,
            "\nSubmissions beside rules: {:.0}/s without, {:.0}/s with {} of which {} match; ratio of each pair, median of {runs}: \
             {ratio:.2}; bound ≥ {:.2}  {}\nOne that a rule approves: p50 {approved:.3} ms, beside {waiting:.3} ms of one that waits \
             ({:.2} times)",
            of(0),
            of(1),
            rules::RULES,
            rules::MATCHING,
            rules::BOUND,
            verdict(ratio >= rules::BOUND),
            approved / waiting.max(0.001),
        )
    }

    fn fmt_named(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ratio) = self.named_ratio() else { return Ok(()) };
        let of = |side: usize| middle(self.named.iter().map(|rates| rates[side]).collect());
        let [few, many] = named::DUE;
        writeln!(
            f,
            "\nPolls that name a request: {:.0}/s beside {few} decisions that are due, {:.0}/s beside {many}; ratio of each \
             pair, median of {}: {ratio:.2}; bound ≥ {:.2}  {}",
            of(0),
            of(1),
            self.named.len(),
            named::BOUND,
            verdict(ratio >= named::BOUND)
        )
    }

    fn fmt_handoffs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.handoffs.first() else { return Ok(()) };
        let acknowledged = per_second(&self.handoffs);
        writeln!(
            f,
            "\nWhole handoffs (submit, decide, poll, acknowledge), {} agents in a closed loop: {acknowledged:.0}/s, median \
             of {}; bound ≥ {HANDOFFS_BOUND:.0}  {}",
            first.agents,
            self.handoffs.len(),
            verdict(acknowledged >= HANDOFFS_BOUND)
        )?;
        fmt_usage(f, first)?;
        let Some(first) = self.used_handoffs.first() else { return Ok(()) };
        let used = per_second(&self.used_handoffs);
        writeln!(
            f,
            "With consume and outcome in place of the acknowledgement, by turns with those: {used:.0}/s, {:.2}x",
            used / acknowledged.max(1.0)
        )?;
        fmt_usage(f, first)
    }

    fn fmt_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for latency in &self.latencies {
            let Latency { p50, p99, most, decisions, at_once, agents } = latency;
            let (bound50, bound99) = latency.bounds();
            let bound50 = bound50.map_or_else(String::new, |bound| format!(" (bound {bound})"));
            writeln!(
                f,
                "\nFrom a decision to its agent, {agents} parked, {decisions} decisions, {at_once} at a time:\n\
                 p50 {p50:.1} ms{bound50}, p99 {p99:.1} ms (bound {bound99}), longest {most:.1} ms  {}",
                verdict(latency.is_met())
            )?;
        }
        Ok(())
    }

    fn fmt_growth(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (stored, pages) in &self.queues {
            let pages: Vec<_> = pages.iter().map(|(query, took)| format!("{query} {took:.1}")).collect();
            writeln!(f, "\nThe queue with {stored} requests stored, milliseconds: {}", pages.join(", "))?;
        }
        for Growth { stored, kind, service, floor } in self.growth() {
            let verdict = verdict(service >= GROWTH_BOUND);
            writeln!(
                f,
                "{:<14} with {stored} requests stored: {service:.2} of the first rate (pgbench {floor:.2}); bound ≥ \
                 {GROWTH_BOUND:.2}  {verdict}",
                kind.name()
            )?;
        }
        Ok(())
    }

    fn fmt_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Memory { service, postgres, nats }) = self.memory {
            writeln!(f, "\nMemory after all this, MiB: service {service:.0}, Postgres {postgres:.0}, NATS {nats:.0}")?;
        }
        for (agents, Memory { service, postgres, nats }) in &self.parked {
            let bound = parked_bound(*agents)
                .map_or_else(String::new, |bound| format!(" (bound {bound:.0}  {})", verdict(*service <= bound)));
            writeln!(
                f,
                "A fresh stack with {agents} agents parked, MiB: service {service:.1}{bound}, Postgres {postgres:.0}, \
                 NATS {nats:.0}"
            )?;
        }
        Ok(())
    }
}

impl Table {
    fn fmt_rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{}\n{:<14}{:>12}{:>12}{:>8}   {:<16}{:>14}",
            self.name, "", "service/s", "pgbench/s", "ratio", "bound", "pgbench rows"
        )?;
        for row in &self.rows {
            let (service, floor) = (rate(&row.service), rate(&row.floor));
            let bound = row.kind.bound(row.connections).filter(|_| self.has_bounds);
            let bound = bound.map(|bound| format!("≥ {bound:.2}  {}", verdict(row.is_met())));
            let bound = bound.unwrap_or_else(|| "–".to_owned());
            let (name, ratio, rows) = (row.kind.name(), row.ratio(), row.floor_rows);
            writeln!(f, "{name:<14}{service:>12.0}{floor:>12.0}{ratio:>8.2}   {bound:<16}{rows:>14}")?;
        }
        Ok(())
    }

    fn fmt_usage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |samples: &[Sample]| samples.iter().all(|sample| sample.usage.is_some());
        if !self.rows.iter().all(|row| known(&row.service) && known(&row.floor)) || self.rows.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nCPU, seconds for 1,000 calls, and the ratio that it would make")?;
        writeln!(
            f,
            "{:<14}{:>12}{:>12}{:>8}{:>8}   | {:>10}{:>10}{:>8}",
            "", "service", "Postgres", "NATS", "client", "Postgres", "pgbench", "ratio"
        )?;
        for row in &self.rows {
            let of = |samples: &[Sample], part: fn(Usage) -> f64| median(samples, |s| s.usage.map_or(0.0, part));
            let (service, floor) = (&row.service, &row.floor);
            writeln!(
                f,
                "{:<14}{:>12.3}{:>12.3}{:>8.3}{:>8.3}   | {:>10.3}{:>10.3}{:>8.2}",
                row.kind.name(),
                of(service, |used| used.service),
                of(service, |used| used.postgres),
                of(service, |used| used.nats),
                of(service, |used| used.client),
                of(floor, |used| used.postgres),
                of(floor, |used| used.client),
                of(floor, Usage::total) / of(service, Usage::total).max(f64::MIN_POSITIVE),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, service: f64, floor: f64) -> Row {
        let sample = |per_second| Sample { per_second, usage: None };
        let (service, floor) = (vec![sample(service), sample(1.0), sample(1e9)], vec![sample(floor)]);
        Row { service, floor, floor_rows: 1, verified: 1, ..Row::new(kind, 32) }
    }

    #[test]
    fn bounds_are_held_against_the_medians() {
        let table = |rows, has_bounds| Table { rows, has_bounds, ..Table::default() };
        let good = table(vec![row(Kind::Submit, 10_000.0, 10_000.0)], true);
        let without = table(vec![row(Kind::EmptyPoll, 1.0, 10_000.0)], false);
        let mut report = Report { tables: vec![good, without], ..Report::default() };
        assert!(report.is_met());
        report.tables.push(table(vec![row(Kind::Decide, 4_900.0, 10_000.0)], true));
        assert!(!report.is_met());
        assert!(report.to_string().contains("MISSED"));
    }

    #[test]
    fn growth_is_held_against_the_first_rate() {
        let table = |stored, service| Table {
            rows: vec![row(Kind::Submit, service, 10_000.0)],
            stored: Some(stored),
            ..Table::default()
        };
        let mut report = Report { tables: vec![table(10_000, 10_000.0), table(20_000, 9_100.0)], ..Report::default() };
        assert!(report.is_met());
        report.tables.push(table(30_000, 8_900.0));
        assert!(!report.is_met());
        let said = report.to_string();
        assert!(said.contains("with 30000 requests stored: 0.89 of the first rate (pgbench 1.00)"), "{said}");
    }
}
