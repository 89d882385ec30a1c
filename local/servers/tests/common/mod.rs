//! What the tests of this crate share: looking at processes, and just enough of two protocols.
#![allow(dead_code, reason = "no test binary uses all of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether a process runs; one that ended and was not waited for does not.
pub fn is_alive(pid: Option<u32>) -> bool {
    let state = ps(pid, "stat=");
    !state.is_empty() && !state.starts_with('Z')
}

/// The user as whom a process runs.
pub fn owner(pid: Option<u32>) -> Option<u32> {
    ps(pid, "uid=").parse().ok()
}

pub fn kill_nine(pid: u32) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?)
}

/// The first child process whose command line contains the text.
pub fn child_called(parent: u32, text: &str) -> Option<u32> {
    let output = Command::new("ps").args(["-A", "-ww", "-o", "pid=,ppid=,command="]).output().ok()?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    listed.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        (words.next()?.parse() == Ok(parent) && line.contains(text)).then_some(pid)
    })
}

pub fn wait_until(what: &str, mut met: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !met() {
        if begun.elapsed() > Duration::from_secs(30) {
            bail!("waited in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A command run by the user who owns the file.
pub fn command_as_owner(program: &str, file: &Path) -> Result<Command> {
    let owner = fs::metadata(file)?;
    let mut command = Command::new(program);
    command.uid(owner.uid()).gid(owner.gid()).stdout(Stdio::null());
    Ok(command)
}

/// Sends Postgres a query and does not wait for its answer.
pub fn send_query(port: u16, query: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let parameters = b"\0\x03\0\0user\0relaytrace\0database\0postgres\0\0";
    stream.write_all(&u32::try_from(parameters.len() + 4)?.to_be_bytes())?;
    stream.write_all(parameters)?;
    let mut answer = Vec::new();
    // ReadyForQuery, idle.
    while !answer.ends_with(b"Z\0\0\0\x05I") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    stream.write_all(b"Q")?;
    stream.write_all(&u32::try_from(query.len() + 5)?.to_be_bytes())?;
    stream.write_all(query.as_bytes())?;
    stream.write_all(b"\0")?;
    Ok(stream)
}

/// Asks NATS: publishes to a subject and returns the answer, if any comes.
pub fn nats_request(port: u16, subject: &str, payload: &str) -> Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let length = payload.len();
    let commands = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\nSUB answer 1\r\nPUB {subject} answer \
         {length}\r\n{payload}\r\nPING\r\n"
    );
    (&stream).write_all(commands.as_bytes())?;
    while let Some(line) = lines.next() {
        let line = line?;
        if line.starts_with("MSG ") {
            return lines.next().context("a message without a body")?.context("cut");
        }
        if line.starts_with("HMSG ") {
            bail!("nobody answers on {subject}");
        }
        if line.starts_with("-ERR") {
            bail!("{line}");
        }
    }
    bail!("the connection was closed")
}

fn ps(pid: Option<u32>, column: &str) -> String {
    let Some(pid) = pid else { return String::new() };
    let asked = Command::new("ps").args(["-o", column, "-p", &pid.to_string()]).output();
    asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
