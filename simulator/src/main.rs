//! Synthetic agents and operators: clients of RelayTrace, over HTTP as anyone.

mod agent;
mod bench;
mod drill;
mod http;
mod keys;
mod offline;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Synthetic agents and operators for RelayTrace.
#[derive(Parser)]
#[command(name = "simulator")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the service's throughput against pgbench running the same statements, and the latency of a decision.
    ///
    /// Starts a stack of its own with a database of its own, and stops it at the end. Ends with status 1 if a bound
    /// is missed. Run it in the checkout, after `local/setup` and `cargo build --release -p local`.
    Bench(bench::Options),
    /// Prove the promises with real servers and real faults: each drill ends with one line, its verdict.
    ///
    /// Starts servers of its own and stops them at the end. Ends with status 1 if a promise was not kept.
    Drill(drill::Options),
    /// Play a scenario with synthetic agents and operators, and judge it by Decision Record v0.
    ///
    /// Plays on a stack of its own, or on any running service (--url). Ends with status 0 if every criterion that the
    /// scenario measures is met, 1 if one is not, 2 if it could not be played, 130 if it was interrupted. The report is
    /// written in each case but 2.
    Run(run::Options),
    /// Play the baseline and every fault, and say of each of the nine criteria whether it is met.
    ///
    /// Ends with status 0 if each of them is measured and met, and no scenario misses one.
    Pilot(run::pilot::Options),
    /// Make open-loop load on a stack of its own: latencies, and CPU and memory of each process.
    Load(run::load::Options),
    /// List the scenarios.
    List,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Bench(options) => bench::run(&options),
        Command::Drill(options) => drill::run(&options),
        Command::Run(options) => run::run(&options),
        Command::Pilot(options) => run::pilot::run(&options),
        Command::Load(options) => run::load::run(&options),
        Command::List => run::list().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("simulator: {error:#}");
        ExitCode::FAILURE
    })
}
