//! `pilot`: the baseline and every fault, one after the other, with a common verdict.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use tokio::task::block_in_place;

use super::criteria::{CRITERIA, State};
use super::memo;
use super::play::Play;
use super::report::{Report, mark, number};
use super::scenario::Scenario;
use super::stop::Stop;
use super::{CANNOT_RUN, INTERRUPTED, in_runtime, on_own_stack, start_servers};

/// In this order.
const SCENARIOS: [&str; 8] = [
    "baseline",
    "burst",
    "retry-storm",
    "operator-absence",
    "nats-outage",
    "database-restart",
    "rolling-restart",
    "hostile-agents",
];

/// Where the pilot's findings go.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Scenarios, in place of those of the pilot.
    scenarios: Vec<String>,
    /// The seed of the plans.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the reports are written.
    #[arg(long, value_name = "DIR", default_value = ".local/pilot")]
    report: PathBuf,
    /// The document whose tables are written anew.
    #[arg(long, value_name = "FILE")]
    memo: Option<PathBuf>,
}

/// What the pilot says of a criterion: not met where one scenario misses it, or where none measures it.
pub fn overall(reports: &[Report], criterion: u8) -> State {
    let states: Vec<_> = reports.iter().filter_map(|report| report.verdict(criterion)).map(|of| of.state).collect();
    if states.contains(&State::Fail) {
        State::Fail
    } else if states.contains(&State::Pass) {
        State::Pass
    } else {
        State::NotMeasured
    }
}

/// Plays them all, writes reports and tables, and says by the exit status whether all nine criteria are met.
pub fn run(options: &Options) -> Result<ExitCode> {
    let outcome = in_runtime(async |stop| {
        let begun = Instant::now();
        let reports = play_all(options, stop).await?;
        if let Some(memo) = &options.memo {
            memo::write(memo, &reports)?;
        }
        println!("\nDecision Record v0, of {} scenarios in {} s:", reports.len(), begun.elapsed().as_secs());
        for (criterion, name, bound) in CRITERIA {
            println!("{} {}  {name}: {bound}", number(criterion), mark(overall(&reports, criterion)));
        }
        if stop.is_stopped() {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let is_met = CRITERIA.iter().all(|(criterion, ..)| overall(&reports, *criterion) == State::Pass);
        let is_whole = reports.iter().all(Report::is_passed);
        println!("The pilot: {}", if is_met && is_whole { "PASS" } else { "FAIL" });
        Ok(if is_met && is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    });
    outcome.or_else(|error| {
        eprintln!("simulator: {error:#}");
        Ok(ExitCode::from(CANNOT_RUN))
    })
}

async fn play_all(options: &Options, stop: &Stop) -> Result<Vec<Report>> {
    let chosen: Vec<&str> = if options.scenarios.is_empty() {
        SCENARIOS.to_vec()
    } else {
        options.scenarios.iter().map(String::as_str).collect()
    };
    let plays = chosen.into_iter().map(|name| {
        let (name, scenario) = Scenario::find(name)?;
        Ok(Play { name, scenario, seed: options.seed, is_judged: true })
    });
    let plays = plays.collect::<Result<Vec<_>>>()?;
    let mut servers = start_servers().await?;
    let mut reports = Vec::new();
    for play in &plays {
        let report = on_own_stack(play, &mut servers, stop).await.with_context(|| play.name.clone())?;
        report.write(&options.report)?;
        report.print();
        println!();
        reports.push(report);
        if stop.is_stopped() {
            break;
        }
    }
    block_in_place(|| drop(servers));
    Ok(reports)
}
