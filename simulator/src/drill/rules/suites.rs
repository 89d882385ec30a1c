//! The contract's own tests, against a service of the drill.

use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::{Verdict, enough};

/// The Python of `local/setup test`.
pub const PYTHON: &str = ".local/tools/bin/python";

pub async fn tokens(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let tests = contract(scene, &service, &["test_tokens.py"], &[]).await?;
    let (forged, foreign) = (answered(&service, 401)?, answered(&service, 403)?);
    enough(forged, 250, "refused tokens")?;
    Ok(format!("{forged} calls with bad tokens, all 401; {foreign} with somebody else's, all 403; {tests} tests"))
}

pub async fn routes(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let tests = contract(scene, &service, &["test_routes.py"], &[]).await?;
    let refused = answered(&service, 401)? + answered(&service, 403)?;
    enough(refused, 80, "refused calls")?;
    Ok(format!("{refused} calls without the right token refused, on every route of the document; {tests} tests"))
}

pub async fn verifiers(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let files = ["test_signatures.py", "test_vectors.py", "test_verifiers.py"];
    let python = contract(scene, &service, &files, &[]).await?;
    let node =
        Command::new("npm").args(["test", "--silent"]).current_dir("tests/verifiers").kill_on_drop(true).output();
    let said = finished(&node.await.context("cannot run npm")?)?;
    let node = number_after(&said, "pass ").context("Node's tests gave no number")?;
    enough(node, 3, "tests in Node")?;
    Ok(format!("{python} tests in Python, {node} in Node: all that was changed is refused"))
}

pub async fn database(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let tests = contract(scene, &service, &["test_database.py"], &[]).await?;
    enough(tests, 12, "tests")?;
    Ok(format!(
        "UPDATE, DELETE and TRUNCATE of both tables refused, to the functions' role and to the owner; {tests} tests"
    ))
}

/// Runs files of `tests/contract` against the service. How many tests passed; an error if one failed.
pub async fn contract(
    scene: &Scene<'_>,
    service: &Service,
    files: &[&str],
    variables: &[(&str, String)],
) -> Result<u64> {
    let ran = Command::new(PYTHON)
        .args(["-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"])
        .args(files.iter().map(|file| format!("tests/contract/{file}")))
        .env("RELAYTRACE_DEV_JSON", describe(scene, service)?)
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .kill_on_drop(true)
        .output();
    let ran = ran.await.with_context(|| format!("cannot run {PYTHON}: local/setup test makes it"))?;
    std::fs::write(scene.folder().join("pytest.log"), &ran.stdout)?;
    let said = finished(&ran)?;
    let last = said.lines().rev().find(|line| line.contains(" passed")).context("pytest gave no number")?;
    let passed = last.split(" passed").next().and_then(|before| before.rsplit(' ').next());
    passed.and_then(|number| number.parse().ok()).with_context(|| format!("pytest said {last:?}"))
}

/// A description of the stack whose base URL is the service's.
fn describe(scene: &Scene<'_>, service: &Service) -> Result<PathBuf> {
    let mut description: Value = serde_json::from_slice(&std::fs::read(scene.folder().join("dev.json"))?)?;
    description["base_url"] = format!("http://{}", service.address()).into();
    let path = scene.folder().join("suite.json");
    std::fs::write(&path, description.to_string())?;
    Ok(path)
}

/// What a program said; an error with its telling lines if it failed.
pub fn finished(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    let telling = said.lines().filter(|line| line.starts_with("FAILED") || line.starts_with("E  ")).take(3);
    let telling: Vec<_> = telling.chain(complaints.lines().rev().take(1)).chain(said.lines().rev().take(1)).collect();
    ensure!(output.status.success(), "{}", telling.join("; "));
    Ok(said)
}

fn number_after(said: &str, words: &str) -> Option<u64> {
    let (_, rest) = said.split_once(words)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Calls that the service answered with this status, by its log.
pub fn answered(service: &Service, status: u16) -> Result<u64> {
    Ok(statuses(service)?.filter(|of| *of == u64::from(status)).count() as u64)
}

/// The status of every call, by the service's log.
pub fn statuses(service: &Service) -> Result<impl Iterator<Item = u64>> {
    let log = std::fs::read_to_string(service.log())?;
    let lines: Vec<_> = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
    Ok(lines.into_iter().filter_map(|line| line["http.status"].as_u64()))
}
