//! The local stack: every function in one process, with a Postgres and a NATS of its own below `.local/`.

mod demo;
mod development;
mod openapi;
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
    /// Print the OpenAPI document, generated from the code.
    Openapi,
    /// Print what can fail and what is done about it, as Markdown.
    Errors,
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
