//! A process of the service: started, killed, frozen, thawed, started again at the same address.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

use crate::http::Connection;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(5);

/// A process of the service, killed when dropped.
#[derive(Debug)]
pub struct Service {
    command: Command,
    address: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
}

impl Service {
    /// Not started yet.
    pub fn new(command: Command, address: SocketAddr, log: PathBuf) -> Self {
        Self { command, address, log, child: None }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its log, JSON lines, of all its lives.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it (again) and waits until it answers `/healthz`; its servers may be down.
    pub async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let begun = Instant::now();
        while !self.is_healthy().await {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                let said = std::fs::read_to_string(self.log()).unwrap_or_default();
                bail!("the service ended at its start ({status}): {}", said.lines().last().unwrap_or_default());
            }
            ensure!(begun.elapsed() < START_LIMIT, "the service did not start within {START_LIMIT:?}");
            sleep(TICK).await;
        }
        Ok(())
    }

    /// Starts it (again) without waiting.
    pub fn spawn(&mut self) -> Result<()> {
        let log = File::options().append(true).create(true).open(&self.log)?;
        self.command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = self.command.get_program().to_string_lossy().into_owned();
        self.child = Some(self.command.spawn().with_context(|| format!("cannot run {program}"))?);
        Ok(())
    }

    async fn is_healthy(&self) -> bool {
        let ask = async {
            let mut connection = Connection::open(self.address).await?;
            let request = connection.request(Method::GET, "/healthz", &HeaderValue::from_static("none"));
            connection.send(request, bytes::Bytes::new()).await
        };
        let answer = tokio::time::timeout(Duration::from_millis(500), ask).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == StatusCode::OK))
    }

    /// Ends it with SIGKILL and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Ends it with SIGTERM, as a deployment does, and after some patience with SIGKILL.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let begun = Instant::now();
        while begun.elapsed() < STOP_LIMIT {
            if self.child.as_mut().map(Child::try_wait).transpose()?.flatten().is_some() {
                break;
            }
            sleep(TICK).await;
        }
        self.kill()
    }

    /// Stops it in its tracks, as Lambda does after a response.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("the service does not run")?;
        kill(Pid::from_raw(pid.cast_signed()), signal).with_context(|| format!("cannot send {signal} to the service"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// A program of the workspace, built beside this one.
pub fn beside_us(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(program.is_file(), "{} is missing: build the workspace", program.display());
    Ok(program)
}
