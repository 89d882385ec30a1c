//! `drill`: the promises, each proved with real servers and real faults.
//!
//! A drill has a name, plays in a scene of its own (a database, processes of the service), breaks something under load,
//! and judges by the clients' own records, the database and the stream. Its last line is its verdict, with its number.

mod aim;
pub mod client;
mod crowd;
mod faults;
mod history;
mod judge;
mod lambda;
mod load;
mod permits;
mod proxy;
mod receivers;
mod registry;
mod rules;
pub mod scene;
mod serve;
pub mod service;
mod stream;
mod uses;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use registry::Drill;
use scene::{Scene, Servers};

/// Which drills, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Drills to run; all if left out.
    names: Vec<String>,
    /// List the drills.
    #[arg(long)]
    list: bool,
    /// The counts of `make test`: small, and several drills at the same time.
    #[arg(long)]
    short: bool,
    /// Drills at the same time, each with servers of its own. Default: 1, with --short 3.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=16))]
    lanes: Option<u16>,
    /// Write the verdicts into the table of this document.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Where the history and the logs of a failed drill are kept.
    #[arg(long, value_name = "DIR", default_value = ".local/drills")]
    kept: PathBuf,
}

/// The middle one; of none: nothing.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A drill's judgement: a sentence with its numbers, or why the promise was not kept.
pub type Verdict = Result<String>;

/// Longest wait for what must happen by itself: a backlog that goes out, deliveries that come again.
const PATIENCE: Duration = Duration::from_mins(2);

/// The run made too little happen to prove anything: no promise is kept by that.
#[derive(Debug)]
struct Inconclusive(String);

impl std::fmt::Display for Inconclusive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "inconclusive: {}", self.0)
    }
}

impl std::error::Error for Inconclusive {}

/// This machine cannot play the drill.
#[derive(Debug)]
struct Unplayable(String);

impl std::fmt::Display for Unplayable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not played: {}", self.0)
    }
}

impl std::error::Error for Unplayable {}

/// Refuses a run that did less than `least` of something.
fn enough(done: u64, least: u64, what: &str) -> Result<()> {
    if done < least {
        bail!(Inconclusive(format!("{done} {what}, at least {least} are needed")));
    }
    Ok(())
}

/// Runs the drills asked for and says by the exit code whether every promise was kept.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        registry::list();
        return Ok(ExitCode::SUCCESS);
    }
    let mut chosen = registry::choose(&options.names)?;
    if options.short && options.names.is_empty() {
        chosen.retain(|drill| drill.short > 0);
    }
    let lanes = options.lanes.unwrap_or(if options.short { 3 } else { 1 });
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = tokio.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            failed = run_all(options, chosen, usize::from(lanes)) => failed.map(|failed| u8::from(failed > 0)),
            stopped = tokio::signal::ctrl_c() => stopped.map(|()| 130).map_err(Into::into),
            _ = terminate.recv() => Ok(143),
        }
    });
    // What a drill left behind must not keep the process.
    tokio.shutdown_timeout(Duration::from_secs(5));
    outcome.map(ExitCode::from)
}

/// Runs drills side by side in lanes. The number of those that failed.
///
/// An inconclusive run proves nothing either way: it is played once more, alone and with twice the count. A promise that
/// was not kept is never played again.
async fn run_all(options: &Options, chosen: Vec<&'static Drill>, lanes: usize) -> Result<usize> {
    let lanes = lanes.min(chosen.len());
    let total = chosen.len();
    let begun = Instant::now();
    let waiting = Arc::new(Mutex::new(VecDeque::from(chosen)));
    let running = (0..lanes).map(|_| run_lane(options, waiting.clone(), 1));
    let mut tally = Tally::default();
    for lane in futures_util::future::try_join_all(running).await? {
        tally.failed += lane.failed;
        tally.inconclusive.extend(lane.inconclusive);
    }
    let mut failed = tally.failed;
    if !tally.inconclusive.is_empty() {
        let again = run_lane(options, Arc::new(Mutex::new(tally.inconclusive.into())), 2).await?;
        failed += again.failed + again.inconclusive.len();
    }
    if total > 1 {
        println!("{} passed, {failed} failed  ({} s)", total - failed, begun.elapsed().as_secs());
    }
    Ok(failed)
}

/// What became of the drills of a lane.
#[derive(Default)]
struct Tally {
    failed: usize,
    inconclusive: Vec<&'static Drill>,
}

/// One drill after the other on the same servers, each with `scale` times its count.
async fn run_lane(options: &Options, waiting: Arc<Mutex<VecDeque<&'static Drill>>>, scale: u64) -> Result<Tally> {
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut tally = Tally::default();
    let mut servers = tokio::task::spawn_blocking(Servers::start).await??;
    while let Some(drill) = next() {
        let begun = Instant::now();
        let verdict = run_one(options, drill, scale, &mut servers).await;
        let passed = verdict.is_ok();
        let is_played = !verdict.as_ref().is_err_and(anyhow::Error::is::<Unplayable>);
        let is_conclusive = !verdict.as_ref().is_err_and(anyhow::Error::is::<Inconclusive>);
        let mark = match (passed, is_played) {
            (true, _) => "PASS",
            (false, true) if !is_conclusive && scale == 1 => "OPEN",
            (false, true) => "FAIL",
            (false, false) => "SKIP",
        };
        if !is_conclusive {
            tally.inconclusive.push(drill);
        } else if !passed && (is_played || !options.short) {
            // The short form runs wherever the tests do; the full form proves, or does not.
            tally.failed += 1;
        }
        let words = verdict.unwrap_or_else(|error| format!("{error:#}").replace('\n', " "));
        let seconds = begun.elapsed().as_secs();
        println!("{:<24} {mark}  {words}  ({seconds} s)", drill.name);
        if let Some(document) = &options.record {
            registry::record(document, drill.name, &format!("{mark}: {words} ({seconds} s)"))?;
        }
        if !passed && servers.restore().is_err() {
            servers = tokio::task::spawn_blocking(Servers::start).await??;
        }
    }
    tokio::task::block_in_place(|| drop(servers));
    Ok(tally)
}

async fn run_one(options: &Options, drill: &'static Drill, scale: u64, servers: &mut Servers) -> Verdict {
    let count = scale * if options.short { drill.short } else { drill.full };
    let mut scene = Scene::set(drill.name, count, options.short, servers)?;
    let verdict = (drill.run)(&mut scene).await;
    if verdict.is_err() {
        let kept = options.kept.join(drill.name);
        match keep(&scene, &kept) {
            Ok(()) => eprintln!("{}: what happened is kept in {}", drill.name, kept.display()),
            Err(error) => eprintln!("{}: what happened could not be kept: {error:#}", drill.name),
        }
    }
    verdict
}

/// Keeps history and logs of a failed drill.
fn keep(scene: &Scene<'_>, kept: &Path) -> Result<()> {
    std::fs::create_dir_all(kept).with_context(|| format!("cannot make {}", kept.display()))?;
    scene.history.write_to(&kept.join("history.jsonl"))?;
    for entry in std::fs::read_dir(scene.folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log")
            && let Some(name) = path.file_name()
        {
            std::fs::copy(&path, kept.join(name))?;
        }
    }
    ensure!(scene.postgres.log().is_file(), "Postgres has no log");
    std::fs::copy(scene.postgres.log(), kept.join("postgres.log"))?;
    std::fs::copy(scene.nats.log(), kept.join("nats.log"))?;
    Ok(())
}
