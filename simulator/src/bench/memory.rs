//! Memory: of each process, and of the service with parked agents.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::Method;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Options;
use super::cpu::of_stack as processes;
use super::rows::{Group, PARKED};
use super::stack::Stack;
use crate::agent::Agent;
use crate::http::Connection;

/// How many agents are parked when the memory is read.
const STEPS: [usize; 3] = [200, 2_000, 5_000];
/// And at last so many, as far as a process may have files.
const MOST: usize = 20_000;
/// Files of the service and of this process that are no agent's connection.
const OTHER_FILES: usize = 200;

/// MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub service: f64,
    /// Memory that its processes share is counted once.
    pub postgres: f64,
    pub nats: f64,
}

/// Memory of the stack's processes now; `None` where there is no `/proc`.
pub fn of_stack(stack: u32) -> Option<Memory> {
    let mut memory = Memory::default();
    for (pid, name) in processes(stack)? {
        match name.as_str() {
            "postgres" => memory.postgres += kibibytes(pid, "smaps_rollup", "Pss:")? / 1_024.0,
            "nats-server" => memory.nats += kibibytes(pid, "status", "VmRSS:")? / 1_024.0,
            _ if pid == stack => memory.service = kibibytes(pid, "status", "VmRSS:")? / 1_024.0,
            // A shell each that stops the servers should the stack be killed.
            _ => {}
        }
    }
    Some(memory)
}

/// A figure of `/proc/<pid>/…`; a process that has just ended holds nothing.
fn kibibytes(pid: u32, file: &str, name: &str) -> Option<f64> {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/{file}")) else { return Some(0.0) };
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or("0").trim().trim_end_matches(" kB").parse().ok()
}

/// How many files this process, and one that it starts, may have.
fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    files.and_then(|limits| limits.split_whitespace().next()?.parse().ok()).unwrap_or(usize::MAX)
}

/// Parks more and more agents at a fresh stack, each with a connection of its own, and reads the memory each time.
pub async fn measure(options: &Options) -> Result<Vec<(usize, Memory)>> {
    /// All have looked for a decision, and look for one again and again.
    const SETTLED_AFTER: Duration = Duration::from_secs(6);
    let most = MOST.min(open_files().saturating_sub(OTHER_FILES));
    ensure!(most > STEPS[2], "too few open files are allowed (`ulimit -n`) to park so many agents");
    let stack = Stack::start(&options.checkout, None).await?;
    let mut admin = Connection::open(stack.address).await?;
    let Some(idle) = of_stack(stack.pid()) else { return Ok(Vec::new()) };
    let mut read = vec![(0, idle)];
    let mut polls = JoinSet::new();
    for step in STEPS.into_iter().chain([most]) {
        eprintln!("memory with {step} parked agents …");
        for index in polls.len()..step {
            let agent = Agent::register(&mut admin, &stack.admin, Group::agent_id(PARKED, index)).await?;
            polls.spawn(poll_for_ever(Connection::open(stack.address).await?, agent));
        }
        sleep(SETTLED_AFTER).await;
        ensure!(polls.try_join_next().is_none(), "a parked agent's poll ended");
        read.push((step, of_stack(stack.pid()).context("there is no /proc any more")?));
    }
    Ok(read)
}

async fn poll_for_ever(mut connection: Connection, agent: Agent) -> Result<()> {
    let path = format!("/v1/agents/{}/decisions/poll?wait_seconds=20", agent.id);
    loop {
        let request = connection.request(Method::GET, &path, agent.token());
        let answer = connection.send(request, Bytes::new()).await?;
        answer.expect(hyper::StatusCode::OK)?;
    }
}
