//! CPU and memory of the processes of a stack, and of the simulator.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::time::{Instant, sleep};

/// How often processes are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Resources that one part of the stack used.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    /// `service`, `postgres` with all its processes, `nats`, `simulator`.
    pub name: String,
    /// Processes, at the most.
    pub processes: usize,
    /// Seconds of CPU while it was looked at.
    pub cpu_seconds: f64,
    /// That, as cores kept busy on average.
    pub cores: f64,
    /// Most resident memory of all its processes together, in MiB. What Postgres's processes share is counted in each
    /// of them.
    pub most_memory_mib: u64,
}

/// Looks at the processes below these until it is dropped; what they used so far.
pub struct Sampler {
    system: System,
    roots: Vec<(&'static str, u32)>,
    begun: Instant,
    /// Milliseconds of CPU before.
    before: BTreeMap<Pid, u64>,
    /// And now, also of those that have ended.
    after: BTreeMap<Pid, (&'static str, u64)>,
    most: BTreeMap<&'static str, (usize, u64)>,
}

impl Sampler {
    /// From now on.
    pub fn start(roots: Vec<(&'static str, u32)>) -> Result<Self> {
        let mut sampler = Self {
            system: System::new()?,
            roots,
            begun: Instant::now(),
            before: BTreeMap::new(),
            after: BTreeMap::new(),
            most: BTreeMap::new(),
        };
        sampler.look();
        sampler.before = sampler.after.iter().map(|(pid, (_, used))| (*pid, *used)).collect();
        Ok(sampler)
    }

    /// Looks again and again, for ever.
    pub async fn keep_looking(&mut self) -> Infallible {
        loop {
            sleep(EVERY).await;
            self.look();
        }
    }

    fn look(&mut self) {
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
        let mut now: BTreeMap<&'static str, (usize, u64)> = BTreeMap::new();
        for (pid, process) in self.system.processes() {
            let Some(name) = self.part_of(*pid, process) else { continue };
            self.after.insert(*pid, (name, process.accumulated_cpu_time()));
            let (processes, memory) = now.entry(name).or_default();
            *processes += 1;
            *memory += process.memory();
        }
        for (name, (processes, memory)) in now {
            let most = self.most.entry(name).or_default();
            *most = (most.0.max(processes), most.1.max(memory));
        }
    }

    /// The part that a process, or one above it, belongs to. Servers are children of the simulator.
    fn part_of(&self, pid: Pid, process: &Process) -> Option<&'static str> {
        let above = std::iter::successors(Some((pid, process)), |(_, process)| {
            let parent = process.parent()?;
            Some((parent, self.system.process(parent)?))
        });
        let named = |pid: Pid| self.roots.iter().find(|(_, root)| *root == pid.as_u32()).map(|(name, _)| *name);
        let part = above.take(8).find_map(|(pid, _)| named(pid))?;
        // Its other children, the servers' watchdogs, are not its own work.
        (part != "simulator" || named(pid).is_some()).then_some(part)
    }

    /// Resources by part.
    pub fn usage(&self) -> Vec<Usage> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let of = |(name, (processes, memory)): (&&'static str, &(usize, u64))| {
            let used = self.after.iter().filter(|(_, (part, _))| part == name);
            let used: u64 =
                used.map(|(pid, (_, now))| now - self.before.get(pid).copied().unwrap_or(0).min(*now)).sum();
            #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
            let cpu_seconds = used as f64 / 1_000.0;
            let (name, cores) = ((*name).to_owned(), cpu_seconds / seconds);
            Usage { name, processes: *processes, cpu_seconds, cores, most_memory_mib: memory >> 20 }
        };
        self.most.iter().map(of).collect()
    }
}

/// As Markdown; empty where nothing was looked at.
pub fn table(usage: &[Usage]) -> String {
    let mut text = String::new();
    if usage.is_empty() {
        return text;
    }
    text.push_str("\n| part | processes | CPU | cores on average | most resident memory |\n|---|---|---|---|---|\n");
    for Usage { name, processes, cpu_seconds, cores, most_memory_mib } in usage {
        let _ = writeln!(text, "| {name} | {processes} | {cpu_seconds:.2} s | {cores:.2} | {most_memory_mib} MiB |");
    }
    text
}
