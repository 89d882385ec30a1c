//! A private NATS server with `JetStream`: started, stopped, killed, wiped and started again.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::Durability;
use crate::folder::{Folder, remove_folder_if_there};
use crate::port;
use crate::postgres_programs::output;
use crate::process::{Running, Steps, end_left_over, is_marked, tail};

const LOG: &str = "nats.log";
const PORT: &str = "port";
const CONFIG: &str = "nats.conf";
const PID_FILE: &str = "nats.pid";
const STORE: &str = "store";

/// The first version in which `sync_interval` can be set; Debian's is older.
const OLDEST: (u32, u32) = (2, 10);

const START_LIMIT: Duration = Duration::from_mins(1);
const IN_ORDER: Steps = &[(Signal::SIGTERM, Duration::from_secs(20))];
const ON_DROP: Steps = &[(Signal::SIGTERM, Duration::from_secs(3))];

/// A NATS server of this process, stopped when dropped.
#[derive(Debug)]
pub struct Nats {
    program: PathBuf,
    folder: Folder,
    log: PathBuf,
    durability: Durability,
    more: String,
    port: u16,
    running: Option<Running>,
}

impl Nats {
    /// Starts a server whose store is below `dir`, made if missing, and waits until it answers.
    ///
    /// The port is the one of the last run on this folder if that is free. A server that a killed
    /// run left there is stopped first; one that is in use is an error.
    pub fn start(dir: &Path, durability: Durability) -> Result<Self> {
        Self::start_with(dir, durability, "")
    }

    /// As [`Self::start`], with more in the server's configuration: users and what they may do, for one.
    pub fn start_with(dir: &Path, durability: Durability, more: &str) -> Result<Self> {
        let program = find_program()?;
        let folder = Folder::take(dir, LOG)?;
        let log = folder.write(LOG, "")?;
        let last_port = fs::read_to_string(folder.path.join(PORT)).ok().and_then(|text| text.trim().parse().ok());
        let mut server = Self { program, folder, log, durability, more: more.to_owned(), port: 0, running: None };
        server.end_left_over()?;
        server.port = port::free(last_port)?;
        for attempt in 1.. {
            match server.start_again() {
                Err(_) if attempt < 5 && tail(&server.log).contains("address already in use") => {
                    server.port = port::free(None)?;
                    server.folder.write(LOG, "")?;
                }
                result => {
                    result?;
                    break;
                }
            }
        }
        server.folder.write(PORT, &server.port.to_string())?;
        Ok(server)
    }

    /// Starts the server that was stopped or killed, on its store and port, and waits until it
    /// answers. Nothing to do while it runs, so end it by the methods here.
    pub fn start_again(&mut self) -> Result<()> {
        if let Some(running) = &mut self.running {
            if running.ended()?.is_none() {
                return Ok(());
            }
            self.kill()?;
        }
        // By its name, new at each start, the server is told from another that has taken its port.
        let name = format!("relaytrace-{:016x}", port::random());
        let config = self.folder.write(CONFIG, &self.config(&name)?)?;
        let mut command = self.folder.command(&self.program);
        command.arg("-c").arg(&config);
        let mut running = Running::start(&self.folder, command, &self.log, &config, Signal::SIGTERM)?;
        match running.wait_until(START_LIMIT, &self.log, |_| answers(self.port, &name)) {
            Ok(()) => self.running = Some(running),
            Err(error) => {
                running.end(&[])?;
                return Err(error.context("cannot start nats-server"));
            }
        }
        Ok(())
    }

    /// Stops the server in order.
    pub fn stop(&mut self) -> Result<()> {
        self.end(IN_ORDER)
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.end(&[])
    }

    /// [`Self::stop`] and [`Self::start_again`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Removes the store of the stopped server: every stream and consumer.
    pub fn wipe(&self) -> Result<()> {
        ensure!(self.running.is_none(), "stop the NATS server before its store is removed");
        remove_folder_if_there(&self.folder.path.join(STORE))
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1, the same for the life of this value.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server, unless it was stopped or killed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn end(&mut self, steps: Steps) -> Result<()> {
        self.running.take().map_or(Ok(()), |running| running.end(steps)).context("cannot stop nats-server")
    }

    fn config(&self, name: &str) -> Result<String> {
        let quoted = |file: &str| -> Result<String> {
            let path = self.folder.path.join(file);
            let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
            Ok(format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"")))
        };
        let sync = match self.durability {
            Durability::Durable => ", sync_interval: always",
            Durability::Throwaway => "",
        };
        Ok(format!(
            "# Written at every start.\nserver_name: {name}\nlisten: \"127.0.0.1:{}\"\npid_file: {}\njetstream: {{ store_dir: {}{sync} }}\n{}\n",
            self.port,
            quoted(PID_FILE)?,
            quoted(STORE)?,
            self.more,
        ))
    }

    /// Stops the server of a run that was killed. The folder is locked, so nobody else owns it.
    fn end_left_over(&self) -> Result<()> {
        let written = fs::read_to_string(self.folder.path.join(PID_FILE)).unwrap_or_default();
        let mark = self.folder.path.join(CONFIG);
        match written.trim().parse() {
            Ok(pid) if is_marked(pid, &mark) => end_left_over(pid, &mark, IN_ORDER),
            _ => Ok(()),
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running.end(ON_DROP));
        }
    }
}

/// Whether the server of this name answers on the port, `JetStream` and all: a NATS server tells about
/// itself in the first line that it sends.
fn answers(port: u16, name: &str) -> bool {
    let limit = Duration::from_millis(500);
    let ask = || -> std::io::Result<String> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut line = String::new();
        BufReader::new(stream.take(16_384)).read_line(&mut line)?;
        Ok(line)
    };
    ask().is_ok_and(|line| line.contains(&format!("\"server_name\":\"{name}\"")) && line.contains("\"jetstream\":true"))
}

/// `$NATS_SERVER`, else the first recent one of PATH and of `.local/tools/bin` in the current folder
/// or one above it.
fn find_program() -> Result<PathBuf> {
    if let Some(named) = env::var_os("NATS_SERVER").filter(|named| !named.is_empty()) {
        let named = std::path::absolute(named)?;
        let (major, minor) = version(&named).context("NATS_SERVER is set, but not to a nats-server")?;
        ensure!((major, minor) >= OLDEST, "NATS_SERVER is version {major}.{minor}; 2.10 or newer is needed");
        return Ok(named);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let here = env::current_dir()?;
    let folders = env::split_paths(&path).chain(here.ancestors().map(|above| above.join(".local/tools/bin")));
    let mut too_old = None;
    for program in folders.map(|folder| folder.join("nats-server")).filter(|program| program.is_file()) {
        match version(&program) {
            Ok(found) if found >= OLDEST => return Ok(std::path::absolute(program)?),
            Ok(found) => too_old = Some(found),
            Err(_) => {}
        }
    }
    match too_old {
        Some((major, minor)) => bail!(
            "nats-server is version {major}.{minor} here, in which JetStream cannot be told to sync every message; 2.10 or \
             newer is needed: run `local/setup`, which installs it"
        ),
        None => bail!("nats-server is not installed: run `local/setup`, which installs it"),
    }
}

fn version(program: &Path) -> Result<(u32, u32)> {
    let said = output(Command::new(program).arg("--version"))?;
    parse_version(&said).with_context(|| format!("{} is no nats-server: it says {said:?}", program.display()))
}

/// (2, 15) of `nats-server: v2.15.1`.
fn parse_version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.trim().strip_prefix("nats-server: v")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{OLDEST, parse_version};

    #[test]
    fn debians_version_is_too_old() {
        assert!(parse_version("nats-server: v2.9.10\n").is_some_and(|found| found < OLDEST));
        assert!(parse_version("nats-server: v2.10.0\n").is_some_and(|found| found >= OLDEST));
        assert_eq!(parse_version("something else"), None);
    }
}
