//! `relaytrace mcp wrap`: an MCP server whose tools run only if a person or a rule approves.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use relaytrace_client::{Patience, Priority};
use relaytrace_mcp::{Asking, Asks, Ended, Guard, Remote, Way, serve_http, serve_stdio};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::asking::priority;
use crate::exit::{Fault, Result};
use crate::settings::Settings;
use crate::terminal::{duration, err};

/// What is logged where `RUST_LOG` says nothing.
const LOGGED: &str = "warn,relaytrace_mcp=info";

/// Commands for MCP servers.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Stand between an MCP client and a server, and ask before a tool runs.
    Wrap(Box<WrapOptions>),
}

/// Which calls are asked about.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ask {
    /// All but those of tools that say of themselves that they change nothing (`readOnlyHint`).
    Writes,
    /// All: the tenant's rules say which need a person.
    All,
}

/// Options of `mcp wrap`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The client starts this command in place of the server. Everything passes on as it came. A tool call that is asked about
waits: it runs once it is approved, exactly as it was approved, once. What is asked, and who is asked, the tenant's rules
say by the action's type, which is the tool's name (with --server, NAME/tool). A client that cannot wait that long gets
\"call again\", and the same call goes on waiting. Standard output is the protocol's; logs go to standard error (RUST_LOG).

The server does not get the variables RELAYTRACE_…. It runs as the same user, who may read the agent's key from a file: one
that is not trusted belongs into a container or to another user.

Examples:
  relaytrace mcp wrap --server files -- npx -y @modelcontextprotocol/server-filesystem /srv/data
  relaytrace mcp wrap --server github --url https://mcp.example.com/mcp --header Authorization=GITHUB_AUTHORIZATION
  relaytrace mcp wrap --server mail --ask all --redact password --listen 127.0.0.1:8765 -- ./mail-server

In a client's settings (docs/guides/mcp.md has them for each):
  {\"mcpServers\": {\"files\": {\"command\": \"relaytrace\", \"args\": [\"mcp\", \"wrap\", \"--server\", \"files\", \"--\",
   \"npx\", \"-y\", \"@modelcontextprotocol/server-filesystem\", \"/srv/data\"]}}}"
)]
pub struct WrapOptions {
    /// Name of the server: actions are of type NAME/tool.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Which calls are asked about.
    #[arg(long, value_enum, default_value = "writes")]
    ask: Ask,
    /// An argument whose value titles do not show. The action always has it.
    #[arg(long, value_name = "NAME")]
    redact: Vec<String>,
    /// How long a call is held before its client is told to call again. Without it, what the client is known to bear.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    hold: Option<Duration>,
    /// How urgent calls are: P1, P2 or P3.
    #[arg(long, default_value = "P2", value_parser = priority)]
    priority: Priority,
    /// The person for whom the client acts, and who may not approve its calls.
    #[arg(long, value_name = "PERSON")]
    on_behalf_of: Option<String>,
    /// Let an operator change the arguments.
    #[arg(long)]
    edit: bool,
    /// Let an operator answer in place of the tool.
    #[arg(long)]
    respond: bool,
    /// Serve clients by streamable HTTP at this address of this machine, such as 127.0.0.1:8765, not on standard input.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The server's address, where it is reached by streamable HTTP.
    #[arg(long, value_name = "URL", required_unless_present = "command", conflicts_with = "command")]
    url: Option<String>,
    /// A header for the server, with the value of this variable.
    #[arg(long, value_name = "NAME=VARIABLE", requires = "url", value_parser = header)]
    header: Vec<(HeaderName, String)>,
    /// The server and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn header(text: &str) -> Result<(HeaderName, String), String> {
    let (name, variable) = text.split_once('=').ok_or("it must be NAME=VARIABLE")?;
    let name = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
    Ok((name, variable.to_owned()))
}

/// Serves until the client, the server, or a signal ends it.
pub async fn run(settings: &Settings, command: &Command) -> Result<()> {
    let Command::Wrap(options) = command;
    let logged = EnvFilter::try_from_default_env().unwrap_or_else(|_| LOGGED.into());
    drop(tracing_subscriber::fmt().with_env_filter(logged).with_writer(std::io::stderr).with_ansi(false).try_init());
    let way = way(options)?;
    let guard = Arc::new(guard(settings, options, &way)?);
    let stop = stopped_by_signals()?;
    let failed = |error: std::io::Error| Fault::failed(error.to_string());
    if let Some(address) = options.listen {
        let ready = |address| err!("relaytrace mcp: serving http://{address}/mcp");
        return serve_http(guard, way, address, stop, ready).await.map_err(failed);
    }
    let started = |error: std::io::Error| Fault::failed(format!("the server cannot be started: {error}"));
    match serve_stdio(guard, &way, &stop).await.map_err(started)? {
        Ended::ByServer(how) => Err(Fault::failed(format!("the server has ended: {how}"))),
        Ended::ByClient | Ended::Stopped => Ok(()),
    }
}

fn guard(settings: &Settings, options: &WrapOptions, way: &Way) -> Result<Guard> {
    // A model waits: what is wrong is said soon.
    let (in_all, first_contact) = (Duration::from_secs(20), Duration::from_secs(5));
    let client = settings.client(Patience { in_all, first_contact, ..Patience::default() })?;
    let asking = Asking {
        server: options.server.clone(),
        target: way.target(),
        priority: options.priority,
        on_behalf_of: options.on_behalf_of.clone(),
        redact: options.redact.clone(),
        edit: options.edit,
        respond: options.respond,
    };
    let asks = match options.ask {
        Ask::Writes => Asks::Writes,
        Ask::All => Asks::All,
    };
    Ok(Guard::new(client, asking, asks, options.hold, &settings.url()?))
}

fn way(options: &WrapOptions) -> Result<Way> {
    let Some(url) = &options.url else { return Ok(Way::Command(options.command.clone())) };
    let mut headers = HeaderMap::new();
    for (name, variable) in &options.header {
        let value =
            std::env::var(variable).map_err(|_| Fault::usage(format!("--header {name}: {variable} is not set")))?;
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| Fault::usage(format!("--header {name}: {variable} is no value of a header")))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(Way::Url(Remote::new(url, headers).map_err(Fault::usage)?))
}

fn stopped_by_signals() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let failed = |error| Fault::failed(format!("signals cannot be awaited: {error}"));
        let (mut signal, stop) = (signal(kind).map_err(failed)?, stop.clone());
        tokio::spawn(async move {
            signal.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}
