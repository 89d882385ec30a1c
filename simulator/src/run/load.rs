//! `load`: many patient agents at a steady rate, and the resources that they cost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use tokio::task::block_in_place;

use super::criteria::milliseconds;
use super::play::Play;
use super::processes::{self, Sampler};
use super::report::{Latency, Report};
use super::scenario::{Behaviour, Load, Operators, Scenario, Stack};
use super::stage::Stage;
use super::stop::Stop;
use super::{CANNOT_RUN, in_runtime, start_servers, status};

/// How much load.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Agents, each with a key of its own.
    #[arg(long, default_value_t = 50)]
    agents: usize,
    /// Handoffs in a second, on average; they come whether or not those before are through.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// For so many seconds.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 30.0)]
    seconds: f64,
    /// The seed of the plan.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where JSON, Markdown and plots are written.
    #[arg(long, value_name = "DIR", default_value = ".local/pilot")]
    report: PathBuf,
}

/// Makes the load, prints and writes what it came to. Ends with status 1 if a handoff did not come to its end.
pub fn run(options: &Options) -> Result<ExitCode> {
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its figures mean nothing (cargo build --release --workspace).");
    }
    let outcome = in_runtime(async |stop| {
        let report = measure(options, stop).await?;
        let path = report.write(&options.report)?;
        print(&report);
        println!("{}.json, .md, .svg", path.display());
        Ok(if report.violations.is_empty() { status(&report) } else { ExitCode::FAILURE })
    });
    outcome.or_else(|error| {
        eprintln!("simulator: {error:#}");
        Ok(ExitCode::from(CANNOT_RUN))
    })
}

async fn measure(options: &Options, stop: &Stop) -> Result<Report> {
    let scenario = scenario(options)?;
    let play = Play { name: "load".to_owned(), scenario, seed: options.seed, is_judged: false };
    let mut servers = start_servers().await?;
    let report = async {
        let mut stage = Stage::set(&play.name, &play.scenario, &mut servers).await?;
        let target = stage.target()?;
        let mut sampler = Sampler::start(stage.processes())?;
        let mut report = tokio::select! {
            report = play.run(target, Some(&mut stage), stop) => report?,
            never = sampler.keep_looking() => match never {},
        };
        report.processes = sampler.usage();
        anyhow::Ok(report)
    };
    let report = report.await;
    block_in_place(|| drop(servers));
    let mut report = report?;
    let unfinished = report.handoffs.values().sum::<u64>() - report.finished();
    if unfinished > 0 && report.interrupted.is_none() {
        report.interrupted = Some(format!("{unfinished} handoffs did not come to their end in time"));
    }
    Ok(report)
}

/// A scenario of patient agents, and of operators that decide at once.
fn scenario(options: &Options) -> Result<Scenario> {
    let mut scenario = Scenario {
        title: format!("{} agents, {} handoffs in a second", options.agents, options.rate),
        seconds: options.seconds,
        drain_seconds: 30.0,
        criteria: Vec::new(),
        load: Load { agents: options.agents, keys: 1, rate: options.rate, burst: 0, burst_every_seconds: 0.0 },
        agents: BTreeMap::from([(Behaviour::Patient, 100)]),
        operators: Operators {
            people: 50,
            think_ms: [100, 300],
            approve: 80,
            reject: 20,
            race: 0,
            never: 0,
            late: 0,
            respond_within_seconds: 5.0,
        },
        stack: Stack::default(),
        faults: Vec::new(),
    };
    scenario.shorten(None, None)?;
    Ok(scenario)
}

fn print(report: &Report) {
    println!("{}; {}", report.title, report.environment.describe());
    for (name, Latency { count, p50, p90, p99, p99_9, most, .. }) in &report.latencies {
        let [p50, p90, p99, p99_9, most] = [p50, p90, p99, p99_9, most].map(|micros| milliseconds(*micros));
        println!("{name:<28} {count:>7}  p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p99_9}  most {most}");
    }
    print!("{}", processes::table(&report.processes).trim_start());
    if let Some(why) = &report.interrupted {
        println!("{why}");
    }
}
