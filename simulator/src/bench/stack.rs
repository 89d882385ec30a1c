//! A stack of the bench's own: started in a temporary folder, stopped when dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hyper::header::HeaderValue;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relaytrace_servers::{free_port, scratch_folder};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::http::bearer;

/// Making a database and starting the servers can take its time on a slow disk.
const START_LIMIT: Duration = Duration::from_mins(3);
const STOP_LIMIT: Duration = Duration::from_secs(40);
const TICK: Duration = Duration::from_millis(20);

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    child: Child,
    pub address: SocketAddr,
    pub database_url: String,
    pub nats_url: String,
    /// Headers `Authorization`.
    pub admin: HeaderValue,
    pub operators: Vec<HeaderValue>,
    // After the child: what is in it is the child's until it has ended.
    folder: TempDir,
}

/// The stack's description.
#[derive(Deserialize)]
struct Description {
    database_url: String,
    nats_url: String,
    operators: Vec<Person>,
    admin: Person,
}

#[derive(Deserialize)]
struct Person {
    token: String,
}

impl Stack {
    /// Starts a stack and waits until it answers.
    pub async fn start(checkout: &Path, port: Option<u16>) -> Result<Self> {
        let program = program()?;
        let free = free_port(port)?;
        ensure!(
            port.is_none_or(|asked| asked == free),
            "that port of 127.0.0.1 is taken: --port names another, or leave it out"
        );
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free));
        let folder = scratch_folder()?;
        let words = folder.path().join("words");
        let child = Command::new(&program)
            .arg("run")
            .current_dir(checkout)
            .env("PORT", address.port().to_string())
            .env("LOCAL_DIR", folder.path())
            .env("DEMO", "0")
            // As many agents as are parked to measure memory have a connection each.
            .env("MAX_CONNECTIONS", "30000")
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&words)?)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let mut stack = Self {
            child,
            address,
            database_url: String::new(),
            nats_url: String::new(),
            admin: HeaderValue::from_static(""),
            operators: Vec::new(),
            folder,
        };
        let description = stack.description().await?;
        (stack.database_url, stack.nats_url) = (description.database_url, description.nats_url);
        stack.admin = bearer(&description.admin.token)?;
        stack.operators = description.operators.iter().map(|person| bearer(&person.token)).collect::<Result<_>>()?;
        ensure!(!stack.operators.is_empty(), "the stack has no operators");
        Ok(stack)
    }

    /// The process id of the service, which is the parent of its servers.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where scripts may be kept.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The stack's output, if it has ended or is about to.
    pub async fn last_words(&mut self) -> Option<String> {
        for _ in 0..50 {
            let words = self.words_if_ended();
            if words.is_some() {
                return words;
            }
            sleep(TICK).await;
        }
        None
    }

    fn words_if_ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        let said = fs::read_to_string(self.folder.path().join("words")).unwrap_or_default();
        Some(format!("the stack ended ({status}) {}", said.trim_end()))
    }

    /// It is written when the stack is ready.
    async fn description(&mut self) -> Result<Description> {
        let path = self.folder.path().join("dev.json");
        let begun = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(&path) {
                return serde_json::from_str(&text).context("the stack's dev.json is not what it should be");
            }
            if let Some(words) = self.words_if_ended() {
                bail!("{words}");
            }
            ensure!(begun.elapsed() < START_LIMIT, "the stack did not start within {} s", START_LIMIT.as_secs());
            sleep(TICK).await;
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = kill(pid, Signal::SIGINT);
        let begun = Instant::now();
        while begun.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(TICK);
        }
        // Its servers notice that their owner is gone, and end.
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

/// The stack's program, built beside this one.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("relaytrace-local");
    ensure!(program.is_file(), "{} is missing: cargo build --release -p local", program.display());
    Ok(program)
}
