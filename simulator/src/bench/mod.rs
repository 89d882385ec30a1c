//! `bench`: the service's throughput beside that of its own statements, and the latency of a decision.
//!
//! For each kind of call service and pgbench take turns on the same cluster, so that a busy machine or a slow disk
//! meets both. pgbench runs the statement that the call sends, alone, over rows like those of the service: what it
//! reaches is the floor under the service's cost, and their ratio is what travels from machine to machine.

mod cpu;
mod database;
mod floor;
mod growth;
mod handoffs;
mod kind;
mod latency;
mod load;
mod memory;
mod named;
mod report;
mod rows;
mod rules;
mod scripts;
mod session;
mod stack;
mod statements;
mod stream;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use session::Session;
use stack::Stack;
use tokio::signal::unix::{SignalKind, signal};

/// How to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Seconds of each measurement, after a second of warm-up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Connections that make load at the same time, one table for each number.
    #[arg(long, default_value = "1,32,128", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=128))]
    connections: Vec<u16>,
    /// Measurements of each kind and side; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    runs: u64,
    /// Decisions whose way to a waiting agent is timed.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    decisions: u32,
    /// Measure only these parts; repeatable. Without it everything is measured but growth, which takes its time.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Measure also with so many requests stored; takes a minute and some 5 GB of disk for each million.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_missing_value = "10000,1000000,5000000")]
    growth: Vec<u64>,
    /// Port of the stack on 127.0.0.1; a free one if left out.
    #[arg(long)]
    port: Option<u16>,
    /// The checkout: its committed query metadata and migrations are read, and the stack runs in it.
    #[arg(long, default_value = ".")]
    checkout: PathBuf,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Submit,
    Decide,
    Poll,
    Acknowledge,
    EmptyPoll,
    /// Polls that name a request, beside few and many decisions that are due.
    NamedPoll,
    /// Submissions beside 100 rules, and those that a rule approves.
    Rules,
    /// Submit, decide and acknowledge where the log's disk is slow.
    SlowFlush,
    /// Whole handoffs, one after the other.
    Handoffs,
    /// From a decision to its parked agent.
    Latency,
    /// NATS alone.
    Stream,
    /// A draft of rules over many stored requests.
    Try,
    /// Memory with parked agents.
    Memory,
    /// With more and more requests stored.
    Growth,
}

impl Part {
    fn is_asked_for(self, options: &Options) -> bool {
        match self {
            Self::Growth => !options.growth.is_empty(),
            _ => options.only.is_empty() || options.only.contains(&self),
        }
    }
}

/// Measures, prints the table, and says by the exit code whether every bound is met.
pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        options.checkout.join(".sqlx").is_dir() && options.checkout.join("migrations").is_dir(),
        "{} is no checkout: run this where .sqlx and migrations are, or name that place with --checkout",
        options.checkout.display()
    );
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its figures mean nothing (cargo build --release -p simulator -p local).");
    }
    // One thread: the other cores are the service's.
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = measure(options) => outcome,
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                Ok(ExitCode::from(130))
            }
            _ = terminate.recv() => Ok(ExitCode::from(143)),
        }
    })
}

async fn measure(options: &Options) -> Result<ExitCode> {
    let programs = database::Programs::find()?;
    let scripts = scripts::Scripts::find(&options.checkout)?;
    eprintln!("Starting a stack …");
    let mut stack = Stack::start(&options.checkout, options.port).await?;
    let outcome = async { Session::prepare(options, programs, &scripts, &stack).await?.run().await }.await;
    if outcome.is_err()
        && let Some(words) = stack.last_words().await
    {
        return outcome.map(|_| ExitCode::FAILURE).context(words);
    }
    eprintln!("Stopping the stack …");
    drop(stack);
    let mut report = outcome?;
    if Part::Memory.is_asked_for(options) {
        report.parked = memory::measure(options).await.context("while measuring memory")?;
    }
    print!("{report}");
    Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
