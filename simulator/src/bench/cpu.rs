//! CPU time of the processes that share the machine, from `/proc`. Where there is none, nothing is known.

use std::collections::HashMap;
use std::fs;
use std::ops::Sub;

use nix::unistd::{SysconfVar, sysconf};

/// Seconds of CPU used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    pub service: f64,
    pub postgres: f64,
    pub nats: f64,
    /// The client: this process or pgbench.
    pub client: f64,
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            service: self.service - before.service,
            postgres: self.postgres - before.postgres,
            nats: self.nats - before.nats,
            client: self.client - before.client,
        }
    }
}

impl Usage {
    /// Of all of them.
    pub fn total(self) -> f64 {
        self.service + self.postgres + self.nats + self.client
    }

    /// Milliseconds for each of so many calls.
    pub fn per_call(self, calls: f64) -> Self {
        let each = |seconds: f64| seconds * 1_000.0 / calls.max(1.0);
        Self {
            service: each(self.service),
            postgres: each(self.postgres),
            nats: each(self.nats),
            client: each(self.client),
        }
    }
}

struct Process {
    name: String,
    parent: u32,
    /// Its own time and that of children that have ended.
    ticks: u64,
}

/// CPU time of the stack's processes and of the client.
pub fn usage(stack: u32, client: u32) -> Option<Usage> {
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
    let processes = processes()?;
    let mut usage = Usage::default();
    for (pid, process) in &processes {
        #[expect(clippy::cast_precision_loss, reason = "hundredths of seconds")]
        let seconds = process.ticks as f64 / ticks_per_second;
        if *pid == client {
            usage.client += seconds;
        } else if is_below(&processes, *pid, stack) {
            match process.name.as_str() {
                "postgres" => usage.postgres += seconds,
                "nats-server" => usage.nats += seconds,
                _ => usage.service += seconds,
            }
        }
    }
    Some(usage)
}

/// The stack's processes and their names.
pub fn of_stack(stack: u32) -> Option<Vec<(u32, String)>> {
    let processes = processes()?;
    let of_stack = processes.iter().filter(|(pid, _)| is_below(&processes, **pid, stack));
    Some(of_stack.map(|(pid, process)| (*pid, process.name.clone())).collect())
}

fn processes() -> Option<HashMap<u32, Process>> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let read = |pid: u32| parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    Some(pids.filter_map(|pid| Some((pid, read(pid)?))).collect())
}

/// Whether it is this process or comes from it.
fn is_below(processes: &HashMap<u32, Process>, pid: u32, of: u32) -> bool {
    let above = std::iter::successors(Some(pid), |pid| processes.get(pid).map(|process| process.parent));
    above.take(8).any(|pid| pid == of)
}

/// `123 (name) S 1 …`: the parent is the fourth field, times are the fourteenth to the seventeenth.
fn parse(stat: &str) -> Option<Process> {
    let (start, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or_default()).sum();
    Some(Process { name: start.split_once('(')?.1.to_owned(), parent: fields.get(1)?.parse().ok()?, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 1 20 0 1 0 5";
        let process = parse(stat).unwrap();
        assert_eq!((process.name.as_str(), process.parent, process.ticks), ("a) b (c", 7, 124));
        assert!(parse("42 (a").is_none());
    }
}
