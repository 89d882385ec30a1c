//! Server processes: started apart from the terminal's signals, watched, and ended for certain.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::folder::Folder;

/// How often a state is looked at that nothing announces.
pub const TICK: Duration = Duration::from_millis(10);

/// Waits on its standard input, which ends when the process that holds the other end dies (however
/// it dies), and then ends the server, if that is still ours.
const WATCHDOG: &str = r#"
while read -r line; do :; done
command=$(cat "/proc/$1/cmdline" || ps -ww -o command= -p "$1")
case $command in *"$2"*) kill -s "$3" "$1" ;; esac
"#;

/// Signals to send in turn, each with the time given to it; the last resort is always SIGKILL.
pub type Steps<'a> = &'a [(Signal, Duration)];

/// A server process of ours, with its watchdog.
#[derive(Debug)]
pub struct Running {
    child: Child,
    watchdog: Child,
}

impl Running {
    /// Starts the server in a process group of its own, so that a Ctrl-C in the terminal reaches
    /// only its owner. `mark` is an argument of its command line that tells it from others; `end` is
    /// the signal that the watchdog sends.
    pub fn start(folder: &Folder, mut command: Command, log: &Path, mark: &Path, end: Signal) -> Result<Self> {
        let output = File::options().append(true).create(true).open(log)?;
        command.stdout(output.try_clone()?).stderr(output).process_group(0);
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
        let watchdog = folder
            .command(Path::new("/bin/sh"))
            .args(["-c", WATCHDOG, "relaytrace-watchdog", &child.id().to_string()])
            .arg(mark)
            .arg(end.as_str().trim_start_matches("SIG"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self { child, watchdog }),
            Err(error) => {
                drop(child.kill().and_then(|()| child.wait()));
                Err(error).context("cannot run /bin/sh")
            }
        }
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until `ready`, while the server runs and at most for `limit`.
    pub fn wait_until(&mut self, limit: Duration, log: &Path, mut ready: impl FnMut(u32) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !ready(self.pid()) {
            if let Some(status) = self.ended()? {
                bail!("the server ended at its start ({status}); its last words:\n{}", tail(log));
            }
            if begun.elapsed() > limit {
                bail!("the server did not answer within {} s; its last words:\n{}", limit.as_secs(), tail(log));
            }
            sleep(TICK);
        }
        Ok(())
    }

    /// Ends the server, by SIGKILL if the steps do not do it.
    pub fn end(mut self, steps: Steps) -> Result<()> {
        let ended = self.end_server(steps);
        // Only now: until then the watchdog is what ends the server should this process die. Gone
        // before its input closes, it cannot signal a process that got the same number.
        drop(self.watchdog.kill());
        drop(self.watchdog.wait());
        ended
    }

    fn end_server(&mut self, steps: Steps) -> Result<()> {
        for (signal, patience) in steps {
            // No other process has the number until the child was waited for.
            if self.ended()?.is_none() {
                send(self.pid(), *signal)?;
            }
            let begun = Instant::now();
            while begun.elapsed() < *patience {
                if self.ended()?.is_some() {
                    return Ok(());
                }
                sleep(TICK);
            }
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Whether a process of this number runs whose command line has the mark.
pub fn is_marked(pid: u32, mark: &Path) -> bool {
    let command = command_line(pid);
    command.windows(mark.as_os_str().len()).any(|part| part == mark.as_os_str().as_bytes())
}

/// Ends a marked process that is no child of ours.
pub fn end_left_over(pid: u32, mark: &Path, steps: Steps) -> Result<()> {
    for (signal, patience) in steps.iter().chain(&[(Signal::SIGKILL, Duration::from_secs(10))]) {
        if is_marked(pid, mark) {
            send(pid, *signal).with_context(|| format!("cannot stop process {pid}, a server left over"))?;
        }
        let begun = Instant::now();
        while begun.elapsed() < *patience {
            if !is_marked(pid, mark) {
                return Ok(());
            }
            sleep(TICK);
        }
    }
    bail!("process {pid}, a server left over, does not end")
}

/// Kills, of these processes, those that still run and are called as given.
pub fn kill_all(pids: &[u32], called: &str) -> Result<()> {
    let runs = |pid: &&u32| command_line(**pid).starts_with(called.as_bytes());
    for pid in pids.iter().filter(runs) {
        send(*pid, Signal::SIGKILL)?;
    }
    let begun = Instant::now();
    while pids.iter().any(|pid| runs(&pid)) {
        if begun.elapsed() > Duration::from_secs(10) {
            bail!("processes do not end though they were killed: {pids:?}");
        }
        sleep(TICK);
    }
    Ok(())
}

/// The processes that this one started.
pub fn children(parent: u32) -> Vec<u32> {
    if !Path::new("/proc/self/stat").exists() {
        let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let pair = |line: &str| {
            let mut words = line.split_whitespace().map_while(|word| word.parse().ok());
            Some((words.next()?, words.next()?))
        };
        return listed.lines().filter_map(pair).filter(|(_, of)| *of == parent).map(|(pid, _)| pid).collect();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            // pid (name) state parent …; the name may hold anything.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let of =
                stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).and_then(|of| of.parse().ok());
            of == Some(parent)
        })
        .collect()
}

/// The end of a log, for an error message.
pub fn tail(log: &Path) -> String {
    const BYTES: i64 = 4096;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        if file.seek(SeekFrom::End(-BYTES)).is_err() {
            file.rewind()?;
        }
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(end)
    };
    let text = read().map(|end| String::from_utf8_lossy(&end).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Empty for a process that is gone, or that ended and was not waited for.
fn command_line(pid: u32) -> Vec<u8> {
    if Path::new("/proc/self/cmdline").exists() {
        return fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    }
    let asked = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    asked.map(|output| output.stdout).unwrap_or_default()
}

/// Sends a signal; that the process is gone already is fine.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(i32::try_from(pid)?), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot send {signal} to process {pid}")),
    }
}
