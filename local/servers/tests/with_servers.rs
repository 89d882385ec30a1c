//! The program `with-servers`, its exit, its signals and its death.

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use common::{child_called, is_alive, kill_nine, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relaytrace_servers::{Durability, Nats, Postgres, scratch_folder};

fn with_servers() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_with-servers"));
    command.stdin(Stdio::null());
    command
}

/// Starts it on the folder with a command that writes down its pid and sleeps.
fn asleep(dir: &Path) -> Result<(Child, u32)> {
    let note = dir.join("note");
    let script = r#"echo $$ >"$0.new" && mv "$0.new" "$0" && exec sleep 100"#;
    let child = with_servers().arg("--dir").arg(dir).args(["--", "sh", "-c", script]).arg(&note).spawn()?;
    wait_until("the command to run", || note.exists())?;
    Ok((child, fs::read_to_string(&note)?.trim().parse()?))
}

fn servers(child: &Child) -> [Option<u32>; 2] {
    [child_called(child.id(), "postgres -D"), child_called(child.id(), "nats-server -c")]
}

#[test]
fn the_command_finds_the_servers_and_gives_its_status() -> Result<()> {
    let script = "echo $DATABASE_URL $NATS_URL; exit 42";
    let output = with_servers().args(["--", "sh", "-c", script]).output()?;
    assert_eq!(output.status.code(), Some(42));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    let (database, nats) = said.trim().split_once(' ').context("two words")?;
    assert!(database.starts_with("postgres://relaytrace@127.0.0.1:") && database.ends_with("/relaytrace"), "{said}");
    assert!(nats.starts_with("nats://127.0.0.1:"), "{said}");

    let output =
        with_servers().args(["--postgres-only", "--", "sh", "-c", "echo ${NATS_URL-none}; kill -9 $$"]).output()?;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(137), b"none\n".as_slice()));
    let output = with_servers().args(["--postgres-only", "--", "no-such-command"]).output()?;
    assert_eq!(output.status.code(), Some(127));
    Ok(())
}

#[test]
fn a_signal_ends_the_command_and_then_the_servers() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let folder = scratch_folder()?;
        let (mut child, sleeper) = asleep(folder.path())?;
        let servers = servers(&child);
        assert!(servers.iter().all(|pid| is_alive(*pid)), "{servers:?}");
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        assert_eq!(child.wait()?.code(), Some(128 + signal as i32));
        assert!(!is_alive(Some(sleeper)));
        assert!(servers.iter().all(|pid| !is_alive(*pid)));
    }
    Ok(())
}

#[test]
fn no_server_outlives_it_when_it_is_killed() -> Result<()> {
    let folder = scratch_folder()?;
    let (mut child, sleeper) = asleep(folder.path())?;
    let servers = servers(&child);
    child.kill()?;
    child.wait()?;
    wait_until("the watchdogs to end the servers", || servers.iter().all(|pid| !is_alive(*pid)))?;
    // The command is not a server: it is left alone.
    assert!(is_alive(Some(sleeper)));
    kill_nine(sleeper)
}

#[test]
fn servers_left_over_are_stopped_by_the_next_start() -> Result<()> {
    let folder = scratch_folder()?;
    let (mut child, sleeper) = asleep(folder.path())?;
    let servers = servers(&child);
    while let Some(watchdog) = child_called(child.id(), "relaytrace-watchdog") {
        kill_nine(watchdog)?;
        wait_until("the watchdog to die", || !is_alive(Some(watchdog)))?;
    }
    child.kill()?;
    child.wait()?;
    kill_nine(sleeper)?;
    assert!(servers.iter().all(|pid| is_alive(*pid)), "they are left over");

    let postgres = Postgres::start(&folder.path().join("postgres"), Durability::Throwaway)?;
    let nats = Nats::start(&folder.path().join("nats"), Durability::Throwaway)?;
    assert!(servers.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(postgres.psql("relaytrace", "SELECT 1")?, "1");
    drop(nats);
    Ok(())
}

#[test]
fn what_is_missing_is_named_with_the_command_that_installs_it() -> Result<()> {
    let folder = scratch_folder()?;
    let old = folder.path().join("nats-server");
    fs::write(&old, "#!/bin/sh\necho nats-server: v2.9.10\n")?;
    fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    for (path, expected) in [(folder.path().to_owned(), "version 2.9"), ("/nonexistent".into(), "not installed")] {
        let mut child = with_servers();
        child.current_dir("/").env("PATH", path).env_remove("NATS_SERVER").args(["--", "true"]);
        let mut child = child.stderr(Stdio::piped()).spawn()?;
        let mut said = String::new();
        child.stderr.take().context("stderr")?.read_to_string(&mut said)?;
        assert_eq!(child.wait()?.code(), Some(1));
        assert!(said.contains(expected) && said.contains("`local/setup`"), "{said}");
    }
    Ok(())
}
