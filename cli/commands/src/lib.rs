//! The commands of agents, operators and administrators.

mod admin;
mod ask;
mod asking;
mod channels;
mod doctor;
mod executable;
mod exit;
mod hook;
mod login;
mod mcp;
mod operator;
mod people;
mod rules;
mod run;
mod settings;
mod terminal;

use std::process::ExitCode;

use clap::Subcommand;
use clap_complete::Shell;

use exit::{Fault, Result};
use settings::Settings;

/// Exit code for wrong arguments of `hook`: with any other one the harness would let the tool run.
pub const USAGE_OF_A_HOOK: u8 = hook::BLOCK;

/// Commands that speak with a relay.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Ask a person, and wait for the answer.
    Ask(Box<ask::Options>),
    /// Run a command only if a person approves exactly this command.
    Run(Box<run::Options>),
    /// Report how it ended, what `ask` was approved.
    Report(ask::ReportOptions),
    /// Answer a harness's hook, which ran this command to ask.
    Hook(hook::Options),
    /// Approvals in front of an MCP server.
    #[command(subcommand)]
    Mcp(mcp::Command),
    /// Sign in as an operator or administrator.
    Login(login::Options),
    /// List requests.
    Queue(operator::QueueOptions),
    /// Show one request whole.
    Show(operator::ShowOptions),
    /// Show a request, and approve it by typing a code.
    Approve(operator::ApproveOptions),
    /// Reject a request.
    Reject(operator::RejectOptions),
    /// Administration as a file.
    #[command(subcommand)]
    Admin(admin::Command),
    /// Rules as a file, without a relay.
    #[command(subcommand)]
    Rules(rules::Command),
    /// Say what keeps agents and operators of this machine from working, and what would let a tool run unasked.
    Doctor,
    /// Print the completion script of a shell.
    #[command(after_help = "Example: relaytrace completions bash >> ~/.bashrc")]
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: Shell,
    },
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Ask(_) => "ask",
            Self::Run(_) => "run",
            Self::Report(_) => "report",
            Self::Hook(_) => "hook",
            Self::Mcp(_) => "mcp",
            Self::Login(_) => "login",
            Self::Queue(_) => "queue",
            Self::Show(_) => "show",
            Self::Approve(_) => "approve",
            Self::Reject(_) => "reject",
            Self::Admin(_) => "admin",
            Self::Rules(_) => "rules",
            Self::Doctor => "doctor",
            Self::Completions { .. } => "completions",
        }
    }
}

/// Runs a command; `program` is the whole command line, for its completion.
pub fn run(command: &Command, program: clap::Command) -> ExitCode {
    // A hook that ends otherwise lets the tool run.
    let code = if matches!(command, Command::Hook(_)) { USAGE_OF_A_HOOK } else { exit::FAILED };
    let tokio = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(tokio) => tokio,
        Err(error) => {
            return Fault { said: format!("no runtime can be started: {error}"), code }.report(command.name());
        }
    };
    if let Command::Hook(options) = command {
        return tokio.block_on(hook::run(Settings::load(), options));
    }
    let ended = tokio.block_on(Box::pin(work(command, program)));
    // Standard input may be waited for still.
    tokio.shutdown_background();
    ended.map_or_else(|fault| fault.report(command.name()), ExitCode::from)
}

async fn work(command: &Command, mut program: clap::Command) -> Result<u8> {
    if let Command::Completions { shell } = command {
        let name = program.get_name().to_owned();
        clap_complete::generate(*shell, &mut program, name, &mut std::io::stdout());
        return Ok(0);
    }
    if let Command::Rules(command) = command {
        return rules::run(command);
    }
    let settings = Settings::load()?;
    match command {
        Command::Ask(options) => ask::run(&settings, options).await.map(|()| 0),
        Command::Run(options) => run::run(&settings, options).await,
        Command::Report(options) => ask::report(&settings, options).await.map(|()| 0),
        Command::Mcp(command) => mcp::run(&settings, command).await.map(|()| 0),
        Command::Login(options) => login::run(&settings, options).await.map(|()| 0),
        Command::Queue(options) => operator::queue(&settings, options).await.map(|()| 0),
        Command::Show(options) => operator::show(&settings, options).await.map(|()| 0),
        Command::Approve(options) => operator::approve(&settings, options).await.map(|()| 0),
        Command::Reject(options) => operator::reject(&settings, options).await.map(|()| 0),
        Command::Admin(command) => admin::run(&settings, command).await,
        Command::Doctor => doctor::run(&settings).await.map(|()| 0),
        Command::Hook(_) | Command::Rules(_) | Command::Completions { .. } => Ok(0),
    }
}
