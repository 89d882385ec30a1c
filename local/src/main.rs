//! The local stack: every function in one process, with a Postgres and a NATS of its own below `.local/`.

mod demo;
mod development;
mod openapi;
mod prepared;
mod stack;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Prepare a database and describe the stack, for `serve` and for drills.
    ///
    /// Reads `DATABASE_URL` (as the owner) and `NATS_URL`, and writes `dev.json`.
    Prepare(PrepareOptions),
    /// Serve all functions in one process, against servers that run elsewhere. Configured as one function is.
    Serve,
    /// Print the OpenAPI document, generated from the code.
    Openapi,
    /// Print what can fail and what is done about it, as Markdown.
    Errors,
}

/// What to prepare.
#[derive(clap::Args, Clone, Debug)]
struct PrepareOptions {
    /// The database's owner, as a URL.
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    /// NATS, as a URL.
    #[arg(long, env = "NATS_URL")]
    nats_url: String,
    /// Port on 127.0.0.1 that the functions will have.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// Where keys and the description of the stack are kept.
    #[arg(long, env = "LOCAL_DIR", default_value = ".local")]
    dir: PathBuf,
}

/// How to run.
#[derive(clap::Args, Clone, Debug)]
struct RunOptions {
    /// Port on 127.0.0.1.
    #[arg(long, env = "PORT", default_value_t = 8080)]
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

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(options) => stack::run(&options),
        Command::Prepare(options) => prepared::run(&options),
        Command::Serve => return stack::serve(),
        Command::Openapi => openapi::document().map(|document| println!("{document}")),
        Command::Errors => {
            print!("{}", relaytrace::failure::document());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relaytrace-local: {error:#}");
            ExitCode::FAILURE
        }
    }
}
