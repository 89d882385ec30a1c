//! Reports of a run: JSON for programs, Markdown for people, and plots.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::criteria::{State, Verdict, milliseconds};
use super::environment::Environment;
use super::ledger::{Mark, Violation};
use super::plots;
use super::processes::{self, Usage};
use super::scenario::Behaviour;
use super::stage::Happened;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// The scenario's description.
    pub title: String,
    /// The seed of the plan.
    pub seed: u64,
    /// The plan that came of it: the same seed and scenario give the same.
    pub plan: String,
    /// Where it was played.
    pub target: String,
    /// When it began.
    pub began: String,
    /// From the first arrival to the last answer, in seconds.
    pub seconds: f64,
    /// Why it ended before its end, if it did.
    pub interrupted: Option<String>,
    /// The machine and software of the run.
    pub environment: Environment,
    /// Criterion by criterion.
    pub verdicts: Vec<Verdict>,
    /// The faults of the run.
    pub faults: Vec<Happened>,
    /// Handoffs planned, by behaviour.
    pub handoffs: BTreeMap<Behaviour, u64>,
    /// Everything that was counted.
    pub counts: BTreeMap<String, u64>,
    /// Times, each from the moment when the call was due.
    pub latencies: BTreeMap<String, Latency>,
    /// Counts by second.
    pub timeline: Vec<BTreeMap<Mark, u64>>,
    /// `[second, pending]`, as the queue said.
    pub queue: Vec<(u64, u64)>,
    /// The first violations that somebody saw.
    pub violations: Vec<Violation>,
    /// Resources of the stack's processes, where they were measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Usage>,
}

/// A distribution, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Measurements.
    pub count: u64,
    /// See the name.
    pub p50: u64,
    /// See the name.
    pub p90: u64,
    /// See the name.
    pub p99: u64,
    /// See the name.
    pub p99_9: u64,
    /// The largest value.
    pub most: u64,
    /// Quantile and value, for plots.
    pub curve: Vec<(f64, u64)>,
}

impl Latency {
    /// Of a histogram of microseconds.
    pub fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile: f64| times.value_at_quantile(quantile);
        let quantiles = (0..=40).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / 10.0));
        Self {
            count: times.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            most: times.max(),
            curve: quantiles.map(|quantile| ((quantile * 1e6).round() / 1e6, at(quantile))).collect(),
        }
    }
}

impl Report {
    /// Whether it says yes: to its end, and every criterion that had to be measured is met.
    pub fn is_passed(&self) -> bool {
        self.interrupted.is_none() && self.verdicts.iter().all(|verdict| verdict.state != State::Fail)
    }

    /// In a word.
    pub fn word(&self) -> &'static str {
        if self.interrupted.is_some() {
            "INTERRUPTED"
        } else if self.is_passed() {
            "PASS"
        } else {
            "FAIL"
        }
    }

    /// Writes the three files into the folder; their common path without its end.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(&self.scenario);
        fs::write(path.with_extension("json"), serde_json::to_string(self)? + "\n")?;
        fs::write(path.with_extension("md"), self.markdown()?)?;
        plots::draw(self, &path.with_extension("svg"))?;
        Ok(path)
    }

    /// Calls that got no answer that counts.
    pub fn lost(&self) -> u64 {
        self.total(Mark::Lost)
    }

    /// Handoffs whose agent has its decision and was told that this is known.
    pub fn finished(&self) -> u64 {
        self.total(Mark::Finished)
    }

    fn total(&self, mark: Mark) -> u64 {
        self.timeline.iter().filter_map(|second| second.get(&mark)).sum()
    }

    /// Its result for a criterion.
    pub fn verdict(&self, criterion: u8) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.criterion == criterion)
    }

    /// For a terminal: a line for each criterion, and the verdict.
    pub fn print(&self) {
        for Verdict { criterion, name, value, state, first_failure, .. } in &self.verdicts {
            println!("{} {}  {name}: {value}", number(*criterion), mark(*state));
            if let Some(first) = first_failure {
                println!("         first: {first}");
            }
        }
        let why = self.interrupted.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        println!("{}: {}{why}", self.scenario, self.word());
    }

    fn markdown(&self) -> Result<String> {
        let Self { scenario, title, seed, plan, target, began, seconds, environment, faults, .. } = self;
        let mut text = format!("# {scenario}: {}\n\n{title}\n\n", self.word());
        if let Some(why) = &self.interrupted {
            writeln!(text, "**Interrupted:** {why}. What was not measured by then is not measured.\n")?;
        }
        writeln!(text, "- began {began}, took {seconds:.1} s; seed {seed}, plan {plan}; on {target}")?;
        writeln!(text, "- {}", environment.describe())?;
        for Happened { what, at, until } in faults {
            writeln!(text, "- {what}: from {at:.1} s to {until:.1} s")?;
        }
        if !self.verdicts.is_empty() {
            writeln!(text, "\n| criterion | bound | measured | |\n|---|---|---|---|")?;
        }
        for Verdict { criterion, name, bound, value, state, first_failure } in &self.verdicts {
            let first = first_failure.as_ref().map(|first| format!(" First: {first}")).unwrap_or_default();
            let measured = (value.clone() + &first).replace('|', "\\|");
            writeln!(text, "| {} {name} | {bound} | {measured} | {} |", number(*criterion), mark(*state))?;
        }
        text.push_str(&processes::table(&self.processes));
        self.write_numbers(&mut text)?;
        writeln!(text, "\n![Latencies, outcomes and the queue's depth]({scenario}.svg)")?;
        Ok(text)
    }

    fn write_numbers(&self, text: &mut String) -> Result<()> {
        writeln!(
            text,
            "\n| from the moment when it was due | count | p50 | p90 | p99 | p99.9 | most |\n|---|---|---|---|---|---|---|"
        )?;
        for (name, Latency { count, p50, p90, p99, p99_9, most, .. }) in &self.latencies {
            let [p50, p90, p99, p99_9, most] = [p50, p90, p99, p99_9, most].map(|micros| milliseconds(*micros));
            writeln!(text, "| {name} | {count} | {p50} | {p90} | {p99} | {p99_9} | {most} |")?;
        }
        writeln!(text, "\n| counted | |\n|---|---|")?;
        for (behaviour, count) in &self.handoffs {
            writeln!(text, "| {} agents' handoffs | {count} |", format!("{behaviour:?}").to_lowercase())?;
        }
        for (what, count) in &self.counts {
            writeln!(text, "| {what} | {count} |")?;
        }
        Ok(())
    }
}

/// How a criterion is called in a table.
pub fn number(criterion: u8) -> String {
    if criterion == 0 { "+".to_owned() } else { criterion.to_string() }
}

/// A state in a word.
pub fn mark(state: State) -> &'static str {
    match state {
        State::Pass => "PASS",
        State::Fail => "FAIL",
        State::NotMeasured => "----",
    }
}
