//! `with-servers`: runs a command beside a private Postgres and a private NATS server.
//!
//! The servers end with the command. A signal is for the command, whose status becomes ours; the
//! servers are stopped after it, never under its feet.

use std::ffi::OsString;
use std::io::{IsTerminal, stdin};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relaytrace_servers::{Durability, Nats, Postgres, scratch_folder};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Run a command beside private Postgres and NATS servers.
///
/// Sets `DATABASE_URL` (an empty database, `relaytrace`) and `NATS_URL` for the command, and exits
/// with its status (128 + N if signal N ended it; 127 if it cannot be run).
#[derive(Parser)]
#[command(name = "with-servers")]
struct Arguments {
    /// Keep acknowledged writes through a crash of the machine: slower, as in production.
    #[arg(long)]
    durable: bool,

    /// Keep the servers' data in this folder; without it they are thrown away.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Start no NATS server.
    #[arg(long)]
    postgres_only: bool,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("with-servers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8> {
    // Before the servers, so that no signal ends this process while they run.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD])?;
    let durability = if arguments.durable { Durability::Durable } else { Durability::Throwaway };
    // Dropped after the servers, as it is declared before them.
    let scratch = if arguments.dir.is_none() { Some(scratch_folder()?) } else { None };
    let dir = scratch.as_ref().map(tempfile::TempDir::path).or(arguments.dir.as_deref()).context("no folder")?;

    let mut postgres = Postgres::start(&dir.join("postgres"), durability)?;
    postgres.create_database_if_missing("relaytrace")?;
    let mut nats = if arguments.postgres_only { None } else { Some(Nats::start(&dir.join("nats"), durability)?) };
    if let Some(signal) = signals.pending().find(|signal| *signal != SIGCHLD) {
        return Ok(shell_status(None, Some(signal)));
    }

    let (program, rest) = arguments.command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(rest).env("DATABASE_URL", postgres.url("relaytrace"));
    // Somebody else's NATS is none: what was not started here is not there.
    match &nats {
        Some(nats) => command.env("NATS_URL", nats.url()),
        None => command.env_remove("NATS_URL"),
    };
    let status = match command.spawn() {
        Ok(child) => {
            let status = wait(child, &mut signals)?;
            shell_status(status.code(), status.signal())
        }
        Err(error) => {
            eprintln!("with-servers: cannot run {}: {error}", program.to_string_lossy());
            127
        }
    };
    if arguments.dir.is_some() {
        postgres.stop()?;
        nats.as_mut().map_or(Ok(()), Nats::stop)?;
    }
    Ok(status)
}

/// Waits for the command, passing on the signals sent to us. A Ctrl-C in the terminal has reached the
/// command without us, and it may live on (`psql` does).
fn wait(mut child: Child, signals: &mut Signals) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        for signal in signals.wait() {
            let from_terminal = signal == SIGINT && stdin().is_terminal();
            // Until it was waited for, no other process has its number.
            if signal != SIGCHLD && !from_terminal {
                kill(Pid::from_raw(i32::try_from(child.id())?), Signal::try_from(signal)?)?;
            }
        }
    }
}

/// The status that a shell would report.
fn shell_status(code: Option<i32>, signal: Option<i32>) -> u8 {
    let status = code.or(signal.map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(status).unwrap_or(1)
}
