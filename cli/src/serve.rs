//! `relaytrace serve`: all functions, or some, in one production process.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use relaytrace_cli::{Function, routes};
use relaytrace_domain::Clock;
use relaytrace_service::config::{Config, ConfigFaults};
use relaytrace_service::events::Publishing;
use relaytrace_service::http::{common_routes, service};
use relaytrace_service::{AppState, DatabaseAuthority, runtime, telemetry};

use crate::{UNAVAILABLE, USAGE};

/// Options of `serve`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  relaytrace serve                                all functions; something else triggers sweeps
  relaytrace serve --sweep-seconds 1              all functions, and a sweep each second
  relaytrace serve --only ingest,poll             the agents' side alone
  PORT=9000 relaytrace serve --only decide        the operators' side, on another port")]
pub struct Options {
    /// Serve only these functions: ingest, poll, bridge, decide, timeout-sweep, notify, replay, admin.
    #[arg(long, value_delimiter = ',', value_name = "FUNCTION,…")]
    only: Vec<String>,
    /// Sweep in this process, every so many seconds. Several processes may: overlapping sweeps have the effect of one.
    #[arg(long, env = "SWEEP_SECONDS", value_name = "SECONDS")]
    sweep_seconds: Option<String>,
}

/// Serves until Ctrl-C or SIGTERM. All faults are reported at once.
pub fn run(options: &Options) -> ExitCode {
    telemetry::init();
    let mut faults = Vec::new();
    let functions = options.functions(&mut faults);
    let period = options.period(&mut faults);
    let routes = routes(functions.clone());
    // A sweep inside decides, whether or not its route is served.
    let sweeps = period.map(|_| Function::TimeoutSweep.routes().needs().clone()).unwrap_or_default();
    let config =
        Config::from_env(&routes.needs().clone().and(sweeps)).map_err(|ConfigFaults(found)| faults.extend(found));
    let Ok(config) = config else { return refuse(USAGE, &faults) };
    if !faults.is_empty() {
        return refuse(USAGE, &faults);
    }
    let tokio = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(tokio) => tokio,
        Err(error) => return refuse(UNAVAILABLE, &[format!("no runtime can be started: {error}")]),
    };
    tokio.block_on(serve(config, functions, period))
}

async fn serve(config: Config, functions: Vec<Function>, period: Option<Duration>) -> ExitCode {
    let listen = SocketAddr::from(config.listen);
    let state = AppState::new(config, &Clock::system(), Publishing::Behind);
    let faults = unavailable(&state, listen).await;
    if !faults.is_empty() {
        return refuse(UNAVAILABLE, &faults);
    }
    let names: Vec<_> = functions.iter().map(|function| function.name()).collect();
    tracing::info!(functions = names.join(","), "serving");
    if let Some(period) = period {
        tokio::spawn(timeout_sweep::schedule(state.acting_by(DatabaseAuthority::Ops), period));
    }
    if functions.contains(&Function::Notify) {
        tokio::spawn(notify::work(state.acting_by(DatabaseAuthority::Ops)));
    }
    let router = service(routes(functions).merge(common_routes()), state.clone());
    match runtime::serve(router, &state, listen, runtime::interrupted()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(UNAVAILABLE, &[format!("{error:#}")]),
    }
}

/// Faults that keep this process from serving. An unreachable database is none: it may come back.
async fn unavailable(state: &AppState, listen: SocketAddr) -> Vec<String> {
    let mut faults = Vec::new();
    if let Err(error) = tokio::net::TcpListener::bind(listen).await {
        faults.push(format!("cannot listen on {listen}: {error}; PORT and BIND_ADDRESS say where to listen"));
    }
    if let Some(address) = state.metrics_address
        && let Err(error) = tokio::net::TcpListener::bind(address).await
    {
        faults.push(format!("cannot listen on {address}: {error}; METRICS_PORT and METRICS_ADDRESS say where to"));
    }
    match state.store.missing_migrations().await {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => faults.push(format!(
            "the database lacks {} migrations of this version: run `relaytrace migrate` with the owner's DATABASE_URL",
            missing.len()
        )),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "the database cannot be asked for its migrations"),
    }
    faults
}

fn refuse(code: u8, faults: &[String]) -> ExitCode {
    eprintln!("relaytrace cannot serve:");
    for fault in faults {
        eprintln!("  {fault}");
    }
    ExitCode::from(code)
}

impl Options {
    fn functions(&self, faults: &mut Vec<String>) -> Vec<Function> {
        if self.only.is_empty() {
            return Function::all().collect();
        }
        let mut functions = Vec::new();
        for name in self.only.iter().map(|name| name.trim()) {
            match name.parse() {
                Ok(function) if functions.contains(&function) => {}
                Ok(function) => functions.push(function),
                Err(_) => {
                    let names: Vec<_> = Function::all().map(Function::name).collect();
                    faults.push(format!("--only: there is no function {name:?}; there are {}", names.join(", ")));
                }
            }
        }
        functions
    }

    /// The time from a sweep to the next; zero means none, as for the local stack.
    fn period(&self, faults: &mut Vec<String>) -> Option<Duration> {
        let text = self.sweep_seconds.as_deref()?;
        match text.parse::<f64>() {
            Ok(0.0) => None,
            Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Some(Duration::from_secs_f64(seconds)),
            _ => {
                faults
                    .push(format!("--sweep-seconds (SWEEP_SECONDS): {text:?} is not a number from 0.1 to 3600, or 0"));
                None
            }
        }
    }
}
