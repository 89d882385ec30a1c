//! Input of every kind, at the routes and at the parser.

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::suites::{contract, finished, statuses};
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough};

/// Examples for each route: full and short.
const EXAMPLES: (u64, u64) = (120, 6);
/// Seconds in which bodies are sent that are made to cost memory: full and short. `FUZZ_SECONDS` gives another time.
const SECONDS: (u64, u64) = (60, 5);

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let examples = if scene.is_short { EXAMPLES.1 } else { EXAMPLES.0 };
    let seconds = match std::env::var("FUZZ_SECONDS") {
        Ok(given) => given.parse().context("FUZZ_SECONDS is not a number of seconds")?,
        Err(_) if scene.is_short => SECONDS.1,
        Err(_) => SECONDS.0,
    };
    let pid = service.pid().context("the service does not run")?;
    let variables =
        [("FUZZ_EXAMPLES", examples.to_string()), ("FUZZ_SECONDS", seconds.to_string()), ("FUZZ_PID", pid.to_string())];
    // One of the tests is that of the bodies.
    let routes = contract(scene, &service, &["fuzz.py"], &variables).await? - 1;
    let statuses: Vec<_> = statuses(&service)?.collect();
    let count = |from: u64, to: u64| statuses.iter().filter(|status| (from..to).contains(*status)).count() as u64;
    let (served, refused, failed) = (count(200, 300), count(400, 500), count(500, 600));
    ensure!(failed == 0, "{failed} calls were answered with 5xx");
    let log = std::fs::read_to_string(service.log())?;
    ensure!(!log.contains("panicked"), "the service panicked");

    // The parser is the service's own code: its test is built as this program was.
    let profile: &[&str] = if cfg!(debug_assertions) { &["--workspace", "--all-features"] } else { &["--release"] };
    let parsed = Command::new("cargo")
        .args(["test", "--quiet", "--package", "relaytrace-domain", "--test", "parser"])
        .args(profile)
        .args(["--", "--nocapture"])
        .env("SQLX_OFFLINE", "true")
        .env("PARSER_INPUTS", scene.count.to_string())
        .kill_on_drop(true)
        .output();
    let said = finished(&parsed.await.context("cannot run cargo")?)?;
    let told = said.lines().find(|line| line.contains("inputs")).context("the parser's test gave no number")?;
    enough(served, 20, "calls that were served")?;
    enough(refused, examples * routes / 4, "calls that were refused")?;
    Ok(format!(
        "{} calls on {routes} routes: {served} served, {refused} refused with problem documents, 0 5xx; no answer of 1 MB and \
        less than 128 MiB above rest, whatever was in a body for {seconds} s; parser: {told}",
        statuses.len()
    ))
}
