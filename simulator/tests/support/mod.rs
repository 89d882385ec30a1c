//! What the simulator's tests need: the program itself, a service to play on, and something wrong in between.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relaytrace_servers::{Durability, Nats, Postgres, free_port, scratch_folder};
use serde_json::Value;
use tempfile::TempDir;

pub mod proxy;

const DATABASE: &str = "simulated";

/// A program of the workspace, built beside the simulator.
pub fn program(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_simulator")).with_file_name(name);
    assert!(program.is_file(), "{} is missing: build the workspace", program.display());
    program
}

/// Runs the simulator and interrupts it after some time, as Ctrl-C does.
pub fn interrupted(arguments: &[&str], after: Duration) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulator"));
    let child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(after);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs the simulator.
pub fn simulator(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulator")).args(arguments).output().unwrap()
}

/// What it said, both ways.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A service of the test's own, without anybody who sweeps.
pub struct Service {
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its database.
    pub postgres: Postgres,
    _nats: Nats,
    folder: TempDir,
}

impl Service {
    /// Starts it.
    pub fn start() -> Self {
        let folder = scratch_folder().unwrap();
        let postgres = Postgres::start(&folder.path().join("postgres"), Durability::Throwaway).unwrap();
        let nats = Nats::start(&folder.path().join("nats"), Durability::Throwaway).unwrap();
        postgres.create_database_if_missing(DATABASE).unwrap();
        let dir = folder.path().join("stack");
        std::fs::create_dir_all(&dir).unwrap();
        let prepared = Command::new(program("relaytrace-local"))
            .args(["prepare", "--database-url", &postgres.url(DATABASE), "--nats-url", &nats.url(), "--dir"])
            .arg(&dir)
            .status();
        assert!(prepared.unwrap().success());
        let text = std::fs::read_to_string(dir.join("dev.json")).unwrap();
        let described: Value = serde_json::from_str(&text).unwrap();
        let environment: HashMap<String, String> = serde_json::from_value(described["environment"].clone()).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(None).unwrap()));
        let child = Command::new(program("relaytrace"))
            .arg("serve")
            .env_clear()
            .envs(environment)
            .env("PORT", address.port().to_string())
            .env("LEASE_SECONDS", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let service = Self { child: child.unwrap(), address, postgres, _nats: nats, folder };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the service does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        service
    }

    /// The stack's description, for `--stack`.
    pub fn description(&self) -> String {
        self.folder.path().join("stack/dev.json").to_str().unwrap().to_owned()
    }

    /// Runs statements as the database's owner.
    pub fn sql(&self, statements: &str) {
        self.postgres.psql(DATABASE, statements).unwrap();
    }

    /// Runs a scenario on it, at this address.
    pub fn play(&self, scenario: &str, address: SocketAddr) -> Played {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("broken.toml");
        std::fs::write(&file, scenario).unwrap();
        let (url, description) = (format!("http://{address}"), self.description());
        let report = folder.path().to_str().unwrap();
        let arguments = ["run", file.to_str().unwrap(), "--url", &url, "--stack", &description, "--report", report];
        let output = simulator(&arguments);
        let text = std::fs::read_to_string(folder.path().join("own-broken.json")).unwrap_or_default();
        Played { report: serde_json::from_str(&text).unwrap_or_default(), output }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

/// A run.
pub struct Played {
    /// What it wrote.
    pub report: Value,
    /// What it said.
    pub output: Output,
}

impl Played {
    /// The criteria that it says are missed.
    pub fn missed(&self) -> Vec<u64> {
        self.with_state("fail")
    }

    /// Those with this state.
    pub fn with_state(&self, state: &str) -> Vec<u64> {
        let verdicts = self.report["verdicts"].as_array().into_iter().flatten();
        verdicts.filter(|of| of["state"] == state).filter_map(|of| of["criterion"].as_u64()).collect()
    }
}
