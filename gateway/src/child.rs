//! A server that is a program: it speaks on its standard streams, and ends with its session.

use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::BufReader;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::heads::Heads;
use crate::lines;

/// How long a server may take to end by itself, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// Variables of these are not the server's: it must not speak for the agent.
const OURS: &str = "RELAYTRACE_";
/// Messages that wait for a slow reader.
pub const CHANNEL: usize = 64;

/// A message for a server.
#[derive(Debug)]
pub struct Outgoing {
    /// The message.
    pub text: String,
    /// What its client shows for authorization with it; None: what the server accepted last (HTTP).
    pub shown: Option<HeaderValue>,
}

impl From<Outgoing> for String {
    fn from(outgoing: Outgoing) -> Self {
        outgoing.text
    }
}

/// A way to a server. Dropping it ends nothing: [`Server::end`] does.
#[derive(Debug)]
pub struct Server {
    /// Messages to it go there.
    pub to_server: mpsc::Sender<Outgoing>,
    /// How it takes each request (HTTP).
    pub heads: Arc<Heads>,
    /// It is told to end.
    pub ending: CancellationToken,
    /// Ends with it; says how.
    pub ended: JoinHandle<String>,
}

impl Server {
    /// Ends it, and waits until it has.
    pub async fn end(self) -> String {
        let Self { to_server, ending, ended, .. } = self;
        ending.cancel();
        drop(to_server);
        ended.await.unwrap_or_else(|error| error.to_string())
    }
}

/// Starts a program. What it says goes to `from_server`; what it writes to standard error, to ours.
pub fn start(command: &[OsString], from_server: mpsc::Sender<String>) -> std::io::Result<Server> {
    let (program, arguments) = command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut starting = Command::new(program);
    starting.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    // What it starts ends with it; Ctrl-C is ours to handle.
    starting.process_group(0);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(OURS)) {
        starting.env_remove(name);
    }
    let mut child = starting.spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::ErrorKind::BrokenPipe.into());
    };
    let (to_server, messages) = mpsc::channel(CHANNEL);
    let ending = CancellationToken::new();
    let writing = tokio::spawn(ending.clone().run_until_cancelled_owned(lines::write(messages, stdin)));
    let reading = tokio::spawn(lines::read(BufReader::new(stdout), from_server));
    let ended = tokio::spawn(supervise(child, ending.clone(), writing, reading));
    Ok(Server { to_server, heads: Arc::default(), ending, ended })
}

async fn supervise(
    mut child: Child,
    ending: CancellationToken,
    writing: JoinHandle<Option<std::io::Result<()>>>,
    mut reading: JoinHandle<std::io::Result<()>>,
) -> String {
    let ours = reading.abort_handle();
    let unread;
    let status = tokio::select! {
        status = child.wait() => {
            // What it said last is still read. What it has started might keep the stream open.
            unread = timeout(GRACE, reading).await.ok().and_then(failure);
            status
        }
        // Its standard input closes: the writer has stopped.
        () = ending.cancelled() => {
            let status = stop(&mut child).await;
            unread = timeout(GRACE, reading).await.ok().and_then(failure);
            status
        }
        // Nothing that it says reaches the client any more.
        read = &mut reading => {
            unread = failure(read);
            ending.cancel();
            stop(&mut child).await
        }
    };
    writing.abort();
    ours.abort();
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    unread.map_or(status.clone(), |why| format!("its output cannot be read: {why}; {status}"))
}

/// Why a stream was not read to its end.
fn failure(read: Result<std::io::Result<()>, tokio::task::JoinError>) -> Option<String> {
    read.ok()?.err().map(|error| error.to_string())
}

async fn stop(child: &mut Child) -> std::io::Result<ExitStatus> {
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if let Ok(status) = timeout(GRACE, child.wait()).await {
            return status;
        }
        if let Some(group) = group {
            let _ = killpg(group, signal);
        }
    }
    child.wait().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_whose_output_cannot_be_read_is_ended() {
        let (from_server, mut said) = mpsc::channel(1);
        let script = "printf '{}\\n\\377\\n'; cat";
        let command = ["sh", "-c", script].map(OsString::from);
        let server = start(&command, from_server).unwrap();
        assert_eq!(said.recv().await.as_deref(), Some("{}"));
        let how = timeout(GRACE * 5, server.ended).await.unwrap().unwrap();
        assert!(how.contains("cannot be read"), "{how}");
        assert!(said.recv().await.is_none());
    }
}
