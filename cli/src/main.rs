//! The command `relaytrace`.

mod attestations;
mod serve;

use std::process::ExitCode;

#[cfg(feature = "commands")]
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use relaytrace_service::runtime;

/// `EX_USAGE` of sysexits.h: arguments or configuration are wrong.
const USAGE: u8 = 64;
/// `EX_UNAVAILABLE` of sysexits.h: a port, a runtime or the schema is missing.
const UNAVAILABLE: u8 = 69;

/// Human approval for AI agents: durable, decided once, signed, traceable.
///
/// Agents and people: `RELAYTRACE_URL` says where the relay is; `relaytrace doctor` says what is missing. The service:
/// `relaytrace serve` with nothing set lists every variable that is required.
#[derive(Parser)]
#[command(
    name = "relaytrace",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 64 wrong arguments or configuration, 69 unreachable, or a port, a runtime or the schema
is missing. `ask` and `run` have further ones."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "commands")]
    #[command(flatten)]
    Client(relaytrace_commands::Command),
    /// Serve the functions in one process, until Ctrl-C or SIGTERM.
    Serve(serve::Options),
    /// Apply the migrations that the database lacks, and prepare the functions' role.
    ///
    /// `DATABASE_URL` is the owner's here. `FUNCTIONS_ROLE` names the login role of the functions' `DATABASE_URL`,
    /// `FUNCTIONS_PASSWORD` is its password. Safe to repeat.
    Migrate,
    /// Erase what agents sent with requests that were submitted and decided before so many days: text, action, context,
    /// resume.
    ///
    /// `DATABASE_URL` is the owner's here. Chains, decisions, digests and receipts stay, and say that it was erased. What
    /// its agent is still to get stays. Safe to repeat.
    Erase {
        /// Days since the decision.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        older_than_days: u32,
        /// Only count.
        #[arg(long)]
        dry_run: bool,
    },
    /// Declare that the database was set back to an older point: before the functions serve again.
    ///
    /// `DATABASE_URL` is the owner's here. From then on events, chain entries and receipts name another epoch, so that
    /// nobody takes them for what was lost; approvals that were usable are not any more, since nobody knows whether they
    /// were used. Safe to repeat.
    DeclareRestore {
        /// Why; kept in the administrators' log.
        #[arg(long)]
        reason: String,
        /// Number of the epoch that begins. Default: the next that this copy knows of. A copy from before a restore that
        /// was declared does not know of that one.
        #[arg(long, value_parser = clap::value_parser!(i32).range(2..))]
        epoch: Option<i32>,
    },
    /// Run one sweep, print its counts as JSON, and exit: for a cron job.
    Sweep,
    /// Tell channels and agents what is due, print the counts as JSON, and exit: for a cron job, where nothing serves
    /// `notify`.
    Notify,
    /// Print the list of the functions' attestation keys, as `ATTESTATION_JWKS` takes it.
    AttestationJwks(attestations::Options),
    /// Exit with 0 if the server of this configuration is ready: a health check for container engines.
    Check,
}

/// Exit code for wrong arguments.
fn usage() -> u8 {
    #[cfg(feature = "commands")]
    if std::env::args_os().nth(1).is_some_and(|command| command == "hook") {
        return relaytrace_commands::USAGE_OF_A_HOOK;
    }
    USAGE
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(error.print());
            let is_asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if is_asked_for { 0 } else { usage() });
        }
    };
    match arguments.command {
        #[cfg(feature = "commands")]
        Command::Client(command) => relaytrace_commands::run(&command, Arguments::command()),
        Command::Serve(options) => serve::run(&options),
        Command::Migrate => runtime::run_migrations(),
        Command::Erase { older_than_days, dry_run } => runtime::run_erase(older_than_days, dry_run),
        Command::DeclareRestore { reason, epoch } => runtime::run_declare_restore(epoch, &reason),
        Command::Sweep => runtime::run_once(&timeout_sweep::router(), timeout_sweep::run_once),
        Command::Notify => runtime::run_once(&notify::router(), notify::run_once),
        Command::AttestationJwks(options) => attestations::run(&options),
        Command::Check => runtime::run_check(),
    }
}
