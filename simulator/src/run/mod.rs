//! `run`, `list`, `pilot`: scenarios with synthetic agents and operators, judged by Decision Record v0.

mod attendants;
mod audit;
mod cohort;
mod criteria;
mod environment;
mod handoff;
mod ledger;
pub mod load;
mod memo;
mod operators;
pub mod pilot;
mod plan;
mod play;
mod plots;
mod probes;
mod processes;
mod progress;
mod proofs;
mod report;
mod scenario;
mod stage;
mod stop;
mod target;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::{block_in_place, spawn_blocking};

use crate::drill::scene::Servers;
use play::Play;
use report::Report;
use scenario::Scenario;
use stage::Stage;
use stop::Stop;
use target::Target;

pub use scenario::list;

/// Exit status where nothing could be judged: a service that cannot be reached, a token that is none, an impossible
/// scenario.
const CANNOT_RUN: u8 = 2;
/// Exit status of a run that was interrupted, as a shell has it.
const INTERRUPTED: u8 = 130;

/// Which scenario, and where.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Name of a scenario (`simulator list`), or a file with one.
    scenario: String,
    /// The seed of the plan: the same seed makes the same plan.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds for which agents come, in place of the scenario's own.
    #[arg(long)]
    seconds: Option<f64>,
    /// Handoffs in a second, in place of the scenario's own.
    #[arg(long)]
    rate: Option<f64>,
    /// Where JSON, Markdown and plots are written.
    #[arg(long, value_name = "DIR", default_value = ".local/pilot")]
    report: PathBuf,
    #[command(flatten)]
    at: At,
}

/// The service to play on. Left out: a stack of the simulator's own, started and stopped by it.
#[derive(clap::Args, Clone, Debug)]
struct At {
    /// Address of a running service, without a stack of its own. Tokens: the options below, else --stack.
    #[arg(long)]
    url: Option<String>,
    /// An administrator's token.
    #[arg(long, env = "RELAYTRACE_ADMIN_TOKEN", hide_env_values = true, requires = "url")]
    admin_token: Option<String>,
    /// An operator's token; two are needed at the least. Repeatable, or with commas.
    #[arg(long, env = "RELAYTRACE_OPERATOR_TOKENS", hide_env_values = true, value_delimiter = ',', requires = "url")]
    operator_token: Vec<String>,
    /// The description of a running stack (`.local/dev.json`), which has address and tokens.
    #[arg(long, value_name = "FILE")]
    stack: Option<PathBuf>,
}

impl At {
    /// The running service that was named, if one was.
    fn target(&self) -> Result<Option<Target>> {
        let Self { url, admin_token, operator_token, stack } = self;
        if let (Some(url), Some(admin)) = (url, admin_token) {
            let operators = operator_token.iter().cloned().map(target::person).collect::<Result<_>>()?;
            return Target::new(url, admin.clone(), operators).map(Some);
        }
        if url.is_none() && stack.is_none() {
            return Ok(None);
        }
        let path = stack.clone().unwrap_or_else(|| PathBuf::from(".local/dev.json"));
        let described = Target::described(&path, url.as_deref());
        described.context("whose tokens? --admin-token and --operator-token, or --stack FILE").map(Some)
    }
}

/// Plays a scenario, writes its report, and says by the exit status whether every criterion is met.
pub fn run(options: &Options) -> Result<ExitCode> {
    let outcome = in_runtime(async |stop| {
        let report = play(options, stop).await?;
        let path = report.write(&options.report)?;
        report.print();
        println!("{}.json, .md, .svg", path.display());
        anyhow::Ok(status(&report))
    });
    outcome.or_else(|error| {
        eprintln!("simulator: {error:#}");
        Ok(ExitCode::from(CANNOT_RUN))
    })
}

/// The exit code of a run.
fn status(report: &Report) -> ExitCode {
    match (report.is_passed(), report.interrupted.is_some()) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) if report.violations.is_empty() => ExitCode::from(INTERRUPTED),
        (false, _) => ExitCode::FAILURE,
    }
}

/// Does the work on all cores, listening for Ctrl-C.
fn in_runtime<T>(work: impl AsyncFnOnce(&Stop) -> Result<T>) -> Result<T> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = tokio.block_on(async { work(&Stop::listen()?).await });
    // What a run left behind must not keep the process.
    tokio.shutdown_timeout(Duration::from_secs(5));
    outcome
}

async fn play(options: &Options, stop: &Stop) -> Result<Report> {
    let (name, mut scenario) = Scenario::find(&options.scenario)?;
    scenario.shorten(options.seconds, options.rate)?;
    let target = options.at.target()?;
    if target.is_some() {
        scenario::check_reach(&name, &scenario)?;
    }
    let play = Play { name, scenario, seed: options.seed, is_judged: true };
    if let Some(target) = target {
        return play.run(target, None, stop).await;
    }
    let mut servers = start_servers().await?;
    let report = on_own_stack(&play, &mut servers, stop).await;
    block_in_place(|| drop(servers));
    report
}

async fn start_servers() -> Result<Servers> {
    eprintln!("Starting servers …");
    spawn_blocking(Servers::start).await?
}

async fn on_own_stack(play: &Play, servers: &mut Servers, stop: &Stop) -> Result<Report> {
    let mut stage = Stage::set(&play.name, &play.scenario, servers).await?;
    let target = stage.target()?;
    play.run(target, Some(&mut stage), stop).await
}
