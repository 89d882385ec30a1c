//! The environment of a run.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::stage::Stage;

/// The machine and the versions. Empty where something cannot be found out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Environment {
    /// Cores that servers, service and simulator share.
    pub cores: usize,
    /// Model of the processor.
    pub processor: String,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Kernel.
    pub kernel: String,
    /// Version of Postgres, of a stack of the simulator's own.
    pub postgres: String,
    /// Version of NATS, likewise.
    pub nats: String,
    /// The checkout's commit; `+` where files differ from it.
    pub commit: String,
    /// Load average of a minute, just before the run: what else was going on.
    pub load_average: String,
    /// The simulator's own priority, which its stack inherits: below 0, others were made to wait.
    pub nice: String,
    /// `release` or `debug`, of the simulator; a stack of its own is built alike.
    pub build: String,
}

impl Environment {
    /// Of this machine, and of the stack.
    pub fn read(stage: Option<&Stage<'_>>) -> Self {
        let nats = stage.and_then(|stage| nats_version(&stage.scene.nats.url()));
        let postgres = stage.and_then(|stage| stage.scene.sql("SHOW server_version").ok());
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            memory_mib: field("/proc/meminfo", "MemTotal").and_then(|text| kibibytes(&text)).unwrap_or_default()
                / 1_024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            postgres: postgres.unwrap_or_default().trim().to_owned(),
            nats: nats.unwrap_or_default(),
            commit: commit().unwrap_or_default(),
            load_average: word("/proc/loadavg", "", 0).unwrap_or_default(),
            // The nineteenth field, counted from behind the program's name (proc(5)).
            nice: word("/proc/self/stat", ")", 16).unwrap_or_default(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }

    /// In a line.
    pub fn describe(&self) -> String {
        let Self { cores, processor, memory_mib, kernel, postgres, nats, commit, load_average, nice, build } = self;
        let known =
            |name: &str, value: &str| if value.is_empty() { String::new() } else { format!(", {name} {value}") };
        format!(
            "{cores} cores{}, {memory_mib} MiB{}{}{}, {build} build{}{}{}",
            known("of", processor),
            known("Linux", kernel),
            known("Postgres", postgres),
            known("NATS", nats),
            known("of commit", commit),
            known("load average before", load_average),
            known("nice", nice)
        )
    }
}

/// `name : value` in a file of `/proc`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A word of a file, counted from behind the last `after`.
fn word(file: &str, after: &str, number: usize) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, rest) = text.rsplit_once(after).filter(|_| !after.is_empty()).unwrap_or(("", &text));
    rest.split_whitespace().nth(number).map(str::to_owned)
}

fn kibibytes(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// A NATS server tells about itself in the first line that it sends.
fn nats_version(url: &str) -> Option<String> {
    let address = Url::parse(url).ok()?.socket_addrs(|| None).ok()?.into_iter().next()?;
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    let info: Value = serde_json::from_str(line.strip_prefix("INFO ")?.trim()).ok()?;
    Some(info["version"].as_str()?.to_owned())
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() { "" } else { "+" };
    Some(git(&["rev-parse", "--short", "HEAD"])? + changed)
}
