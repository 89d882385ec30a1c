//! The scheduler and the description of a stack whose functions run elsewhere: binaries, an emulator, containers.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relaytrace_service::{runtime, telemetry};
use tokio::process::{Child, Command};

use crate::prepared::{Addresses, Prepared};
use crate::{AttendOptions, BesideOptions, prepared, stack};

/// Describes a stack with servers of its own, then triggers its sweeps until it is told to stop.
pub fn attend(options: &AttendOptions) -> anyhow::Result<ExitCode> {
    telemetry::init();
    let variable = |name| std::env::var(name).with_context(|| format!("{name} is required: as the functions use it"));
    let (database_url, nats_url) = (variable("DATABASE_URL")?, variable("NATS_URL")?);
    std::fs::create_dir_all(&options.dir).with_context(|| format!("cannot make {}", options.dir.display()))?;
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.block_on(async {
        let prepared = Prepared::new(&options.dir, &database_url, &nats_url, options.addresses.clone()).await?;
        prepared.write()?;
        if options.once {
            let page = &options.addresses.base_url;
            println!("The operator page is {page}/ and this signs you in:\n{}", prepared.operator_token()?);
            return Ok(ExitCode::SUCCESS);
        }
        let functions_url = options.functions_url.as_ref().unwrap_or(&options.addresses.base_url);
        let sweeps = trigger_sweeps(functions_url, prepared.admin_token("default")?, options.sweep_seconds);
        tokio::select! {
            () = runtime::interrupted() => Ok(ExitCode::SUCCESS),
            outcome = prepared.keep_fresh() => outcome.map(|()| ExitCode::SUCCESS),
            () = sweeps => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Runs a command beside Postgres and NATS, both prepared, and described with the command's own address.
pub fn beside(options: &BesideOptions) -> anyhow::Result<ExitCode> {
    let (program, rest) = options.command.split_first().context("no command")?;
    stack::with_servers(&options.dir, async |postgres, nats| {
        let service_url = prepared::migrate(&stack::owner_url(postgres)).await?;
        let base_url = format!("http://127.0.0.1:{}", options.port);
        let addresses = Addresses { base_url, database_url: stack::owner_url(postgres), nats_url: nats.url() };
        let prepared = Prepared::new(&options.dir, &service_url, &nats.url(), addresses.clone()).await?;
        prepared.write()?;
        let description = Path::new(&options.dir).canonicalize()?.join("dev.json");
        let mut command = Command::new(program);
        command.args(rest).envs(&prepared.environment).env("RELAYTRACE_DEV_JSON", description);
        let mut child = command.spawn().context("the command does not start")?;
        let sweeps = trigger_sweeps(&addresses.base_url, prepared.admin_token("default")?, options.sweep_seconds);
        tokio::pin!(sweeps);
        loop {
            tokio::select! {
                status = child.wait() => {
                    let code = status?.code().and_then(|code| u8::try_from(code).ok());
                    return Ok(ExitCode::from(code.unwrap_or(1)));
                }
                () = runtime::interrupted() => tell_to_stop(&child)?,
                outcome = prepared.keep_fresh() => outcome?,
                () = &mut sweeps => {}
            }
        }
    })
}

/// From a terminal the command was told already, which does no harm. Not by SIGINT: shells ignore it in the background.
fn tell_to_stop(child: &Child) -> anyhow::Result<()> {
    if let Some(id) = child.id() {
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
    }
    Ok(())
}

/// Triggers sweeps and notifications, as a schedule does in a deployment, until it is dropped.
async fn trigger_sweeps(functions_url: &str, admin_token: String, seconds: f64) {
    if seconds <= 0.0 {
        return std::future::pending().await;
    }
    let client = reqwest::Client::new();
    let urls = ["timeout-sweep", "notify"].map(|name| format!("{functions_url}/internal/{name}"));
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(seconds));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // One that fails is logged where it fails, and the next goes on.
        for url in &urls {
            drop(client.post(url).bearer_auth(&admin_token).send().await);
        }
    }
}
