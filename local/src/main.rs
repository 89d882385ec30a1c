//! The local stack: every function in one process, with a Postgres and a NATS of its own below `.local/`.

mod attend;
mod demo;
mod development;
mod front;
mod openapi;
mod prepared;
mod stack;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use front::FrontOptions;
use prepared::Addresses;

/// RelayTrace on one machine.
#[derive(Parser)]
#[command(name = "relaytrace-local")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole product until Ctrl-C. State stays in the folder.
    Run(RunOptions),
    /// Prepare a database and describe the stack, for `relaytrace serve` and for drills.
    ///
    /// Reads `DATABASE_URL` (as the owner) and `NATS_URL`, and writes `dev.json`.
    Prepare(PrepareOptions),
    /// Run a command beside a Postgres and a NATS, prepared for the functions that the command starts. They find their
    /// configuration in the environment; `RELAYTRACE_DEV_JSON` describes the stack.
    Beside(BesideOptions),
    /// Describe a stack whose servers and functions run elsewhere, and trigger its sweeps. `DATABASE_URL` and `NATS_URL`
    /// are as its functions use them.
    Attend(AttendOptions),
    /// Serve functions that run as processes of their own under one address.
    Front(FrontOptions),
    /// Print the OpenAPI document, generated from the code.
    Openapi,
    /// Print what can fail and what is done about it, as Markdown.
    Errors,
}

/// Options of `prepare`.
#[derive(clap::Args, Clone, Debug)]
struct PrepareOptions {
    /// The database's owner, as a URL.
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    /// NATS, as a URL.
    #[arg(long, env = "NATS_URL")]
    nats_url: String,
    /// Port on 127.0.0.1 that the functions will have.
    #[arg(long, env = "PORT", default_value_t = 8080, value_parser = port)]
    port: u16,
    /// Where keys and the description of the stack are kept.
    #[arg(long, env = "LOCAL_DIR", default_value = ".local")]
    dir: PathBuf,
}

/// Options of `run`.
#[derive(clap::Args, Clone, Debug)]
struct RunOptions {
    /// Port on 127.0.0.1.
    #[arg(long, env = "PORT", default_value_t = 8080, value_parser = port)]
    port: u16,
    /// Demo agents that submit realistic requests: 1 or 0.
    #[arg(long, env = "DEMO", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    demo: u8,
    /// Seconds between sweeps; 0 runs none.
    #[arg(long, env = "SWEEP_SECONDS", default_value_t = 1.0)]
    sweep_seconds: f64,
    /// Where servers, keys and the description of the stack are kept.
    #[arg(long, env = "LOCAL_DIR", default_value = ".local")]
    dir: PathBuf,
}

/// Options of `beside`.
#[derive(clap::Args, Clone, Debug)]
struct BesideOptions {
    /// Port on 127.0.0.1 where the command serves the functions.
    #[arg(long, value_parser = port)]
    port: u16,
    /// Seconds between sweeps; 0 triggers none.
    #[arg(long, env = "SWEEP_SECONDS", default_value_t = 1.0)]
    sweep_seconds: f64,
    /// Where servers, keys and the description of the stack are kept.
    #[arg(long, env = "LOCAL_DIR", default_value = ".local")]
    dir: PathBuf,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Options of `attend`.
#[derive(clap::Args, Clone, Debug)]
struct AttendOptions {
    #[command(flatten)]
    addresses: Addresses,
    /// Where the functions are reached from here, if not at the base URL.
    #[arg(long)]
    functions_url: Option<String>,
    /// Seconds between sweeps; 0 triggers none.
    #[arg(long, default_value_t = 1.0)]
    sweep_seconds: f64,
    /// Only describe.
    #[arg(long)]
    once: bool,
    /// Where keys and the description of the stack are kept.
    #[arg(long, env = "LOCAL_DIR", default_value = ".local")]
    dir: PathBuf,
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "PORT, as --port, must be a number from 0 to 65535")
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(options) => stack::run(&options),
        Command::Prepare(options) => prepared::run(&options),
        Command::Beside(options) => attend::beside(&options),
        Command::Attend(options) => attend::attend(&options),
        Command::Front(options) => front::run(&options),
        Command::Openapi => openapi::document().map(|document| {
            println!("{document}");
            ExitCode::SUCCESS
        }),
        Command::Errors => {
            print!("{}", relaytrace_domain::failure::document());
            Ok(ExitCode::SUCCESS)
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("relaytrace-local: {error:#}");
            ExitCode::FAILURE
        }
    }
}
