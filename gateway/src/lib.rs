//! A gateway in front of one MCP server: a tool call that has to be approved waits for the relay's answer, and everything
//! else passes on byte for byte.
//!
//! ```text
//! client ──stdio or streamable HTTP── Session (Guard) ──stdio or streamable HTTP── server
//!                                           └── relay: ask, wait, use up, report
//! ```
//!
//! The gateway keeps nothing on disk. A call's key is made of the principal, the server, the tool, its params and an ordinal,
//! so that the same call finds its question again, also after a restart; the relay's answer is the only authority.

mod caller;
mod catalog;
mod child;
mod guard;
mod headers;
mod heads;
mod lines;
mod listen;
mod message;
mod question;
mod routes;
mod session;
mod stdio;
mod tasks;
mod told;
mod upstream;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, HeaderValue, header};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

pub use guard::{Asks, Guard};
pub use question::Asking;

/// Prefix of the ids of the gateway's own requests.
const OWN_ID: &str = "relaytrace-";

/// Whether an id (JSON) is one of the gateway's own requests.
fn is_own(id: &str) -> bool {
    id.strip_prefix('"').is_some_and(|id| id.starts_with(OWN_ID))
}

/// A new id of the gateway's own, as JSON.
fn own_id() -> String {
    format!("\"{OWN_ID}{}\"", Uuid::new_v4().simple())
}

/// Where the server is.
#[derive(Clone, Debug)]
pub enum Way {
    /// A program that is started for each session, with its arguments.
    Command(Vec<OsString>),
    /// An address that speaks streamable HTTP.
    Url(Remote),
}

/// A server at an address.
#[derive(Clone, Debug)]
pub struct Remote {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
}

impl Remote {
    /// At this address; these headers go with every call.
    ///
    /// # Errors
    /// What is wrong with the address, in words and without the address: that may hold a secret.
    pub fn new(url: &str, headers: HeaderMap) -> Result<Self, String> {
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let url = Url::parse(url).ok().filter(is_http).ok_or("it is no http or https address")?;
        let http = upstream::client().map_err(|error| error.to_string())?;
        Ok(Self { http, url, headers })
    }
}

impl Way {
    /// What is wrapped, as the operator reads it: the program's or the host's name, and a digest of the command with its
    /// arguments and its folder, or of the address. A call that was approved for one server is another question for
    /// another.
    #[must_use]
    pub fn target(&self) -> String {
        let mut context = Context::new(&SHA256);
        let mut update = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        let name = match self {
            Self::Command(command) => {
                update(b"command");
                update(std::env::current_dir().unwrap_or_default().as_os_str().as_bytes());
                for word in command {
                    update(word.as_bytes());
                }
                let program = command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
                program.to_string_lossy().into_owned()
            }
            Self::Url(Remote { url, .. }) => {
                update(b"url");
                update(url.as_str().as_bytes());
                url.host_str().unwrap_or_default().to_owned()
            }
        };
        format!("{name} sha256:{}", hex::encode(context.finish()))
    }

    /// For a client on standard input: it cannot be told that its session is lost, so that another one begins by itself.
    fn start(&self, from_server: mpsc::Sender<String>) -> std::io::Result<child::Server> {
        self.begin(None, true, from_server)
    }

    /// For a client by HTTP, which showed this for authorization: it is the server's to judge.
    fn start_for(
        &self,
        shown: Option<&HeaderValue>,
        from_server: mpsc::Sender<String>,
    ) -> std::io::Result<child::Server> {
        self.begin(shown, false, from_server)
    }

    fn begin(
        &self,
        shown: Option<&HeaderValue>,
        begins_again: bool,
        from_server: mpsc::Sender<String>,
    ) -> std::io::Result<child::Server> {
        match self {
            Self::Command(command) => child::start(command, from_server),
            Self::Url(remote) => Ok(upstream::connect(remote.clone(), shown.cloned(), begins_again, from_server)),
        }
    }

    /// Whether the server is at an address.
    fn is_remote(&self) -> bool {
        matches!(self, Self::Url(_))
    }

    /// Whether the server judges what clients show for authorization: it gets that, and no other (`--header`).
    fn judges(&self) -> bool {
        matches!(self, Self::Url(remote) if !remote.headers.contains_key(header::AUTHORIZATION))
    }
}

/// How a gateway ended.
#[derive(Debug)]
pub enum Ended {
    /// Its client has gone.
    ByClient,
    /// Its server has gone, and how.
    ByServer(String),
    /// It was told to stop.
    Stopped,
}

/// Serves one client on standard input and output, until one of the two ends or `stop` is cancelled.
///
/// # Errors
/// The server cannot be started.
pub async fn serve_stdio(guard: Arc<Guard>, way: &Way, stop: &CancellationToken) -> std::io::Result<Ended> {
    stdio::serve(guard, way, stop).await
}

/// Serves clients by streamable HTTP at an address of this machine, until `stop` is cancelled. `ready` is told the address.
///
/// # Errors
/// The address is not this machine's own, or is taken.
pub async fn serve_http(
    guard: Arc<Guard>,
    way: Way,
    address: SocketAddr,
    stop: CancellationToken,
    ready: impl FnOnce(SocketAddr),
) -> std::io::Result<()> {
    if !address.ip().is_loopback() {
        let why = "nobody is asked who they are there: only an address of this machine, such as 127.0.0.1:8765";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
    }
    let listener = TcpListener::bind(address).await?;
    ready(listener.local_addr()?);
    listen::serve(guard, way, listener, stop).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_are_two_targets_and_an_address_is_not_shown() {
        let command = |words: &[&str]| Way::Command(words.iter().map(OsString::from).collect()).target();
        let url = |url: &str| Way::Url(Remote::new(url, HeaderMap::new()).unwrap()).target();
        assert_eq!(command(&["/bin/server", "a"]), command(&["/bin/server", "a"]));
        assert!(command(&["/bin/server", "a"]).starts_with("server sha256:"));
        assert_ne!(command(&["/bin/server", "a"]), command(&["/bin/server", "b"]));
        assert_ne!(command(&["/bin/server", "a", "b"]), command(&["/bin/server", "ab"]));
        assert_ne!(command(&["/bin/server"]), command(&["/opt/server"]));
        assert_ne!(url("http://a.example/mcp?key=1"), url("http://a.example/mcp?key=2"));
        assert!(url("http://a.example/mcp?key=hunter2").starts_with("a.example sha256:"));
        assert!(!Remote::new("ftp://hunter2@a", HeaderMap::new()).unwrap_err().contains("hunter2"));
    }
}
