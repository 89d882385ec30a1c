//! The table.

use std::fmt;

use super::cpu::Usage;
use super::kind::Kind;
use super::latency::Latency;
use super::load::SAMPLE;
use super::rows::ENVELOPE_BYTES;

/// The slowest median way of a decision to its agent, in milliseconds.
const LATENCY_BOUND: f64 = 10.0;

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
    pub service: Vec<Sample>,
    pub floor: Vec<Sample>,
    /// Rows that pgbench wrote while it was measured.
    pub floor_rows: u64,
    /// Events, at the most, that the service had not published when its load ended.
    pub behind: u64,
    /// Answers of the service that were verified.
    pub verified: u64,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub connections: usize,
    pub seconds: u64,
    pub rows: Vec<Row>,
    pub latency: Option<Latency>,
}

impl Row {
    fn ratio(&self) -> f64 {
        median(&self.service, |sample| sample.per_second) / median(&self.floor, |sample| sample.per_second).max(1.0)
    }

    fn is_met(&self) -> bool {
        self.kind.bound().is_none_or(|bound| self.ratio() >= bound)
    }
}

impl Report {
    /// Whether no bound is missed.
    pub fn is_met(&self) -> bool {
        self.rows.iter().all(Row::is_met) && self.latency.is_none_or(|latency| latency.p50 <= LATENCY_BOUND)
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
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
        let runs = self.rows.first().map_or(0, |row| row.service.len());
        writeln!(
            f,
            "\n{} connections, {} s each, median of {runs}; {ENVELOPE_BYTES}-byte envelopes\n",
            self.connections, self.seconds
        )?;
        writeln!(
            f,
            "{:<14}{:>12}{:>12}{:>8}   {:<16}{:>14}",
            "", "service/s", "pgbench/s", "ratio", "bound", "pgbench rows"
        )?;
        for row in &self.rows {
            let (service, floor) = (median(&row.service, |s| s.per_second), median(&row.floor, |s| s.per_second));
            let bound = row.kind.bound().map(|bound| format!("≥ {bound:.2}  {}", verdict(row.is_met())));
            let bound = bound.unwrap_or_else(|| "–".to_owned());
            let (name, ratio, rows) = (row.kind.name(), row.ratio(), row.floor_rows);
            writeln!(f, "{name:<14}{service:>12.0}{floor:>12.0}{ratio:>8.2}   {bound:<16}{rows:>14}")?;
        }
        self.fmt_usage(f)?;
        let verified: u64 = self.rows.iter().map(|row| row.verified).sum();
        writeln!(
            f,
            "\nOf the service's answers 1 in {SAMPLE} was looked at, agents' with its signature: {verified}, all good."
        )?;
        let behind: Vec<_> = self.rows.iter().filter(|row| row.behind > 0).collect();
        if !behind.is_empty() {
            let counts: Vec<_> = behind.iter().map(|row| format!("{} {}", row.kind.name(), row.behind)).collect();
            writeln!(f, "Events that were published only after the load, at the most: {}.", counts.join(", "))?;
        }
        if let Some(Latency { p50, p99, most, decisions, agents }) = self.latency {
            writeln!(
                f,
                "\nFrom a decision to its agent, {agents} parked, {decisions} decisions one at a time:\n\
                 p50 {p50:.1} ms, p99 {p99:.1} ms, longest {most:.1} ms; bound p50 ≤ {LATENCY_BOUND:.0} ms  {}",
                verdict(p50 <= LATENCY_BOUND)
            )?;
        }
        Ok(())
    }
}

impl Report {
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
        Row { kind, service, floor, floor_rows: 1, behind: 0, verified: 1 }
    }

    #[test]
    fn bounds_are_held_against_the_medians() {
        let mut report = Report { rows: vec![row(Kind::Submit, 4_500.0, 10_000.0)], ..Report::default() };
        assert!(report.is_met());
        report.rows.push(row(Kind::EmptyPoll, 1.0, 10_000.0));
        assert!(report.is_met());
        report.rows.push(row(Kind::Decide, 3_900.0, 10_000.0));
        assert!(!report.is_met());
        assert!(report.to_string().contains("MISSED"));
    }
}
