//! Synthetic agents and operators: clients of RelayTrace, over HTTP as anyone.

mod agent;
mod bench;
mod drill;
mod http;

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
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Bench(options) => bench::run(&options),
        Command::Drill(options) => drill::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("simulator: {error:#}");
        ExitCode::FAILURE
    })
}
