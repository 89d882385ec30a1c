//! `relaytrace run`: a command runs only if exactly it was approved, once, and its end is on record.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ExitStatus};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relaytrace_client::{Action, Ended, PermitInUse};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use crate::asking::{Asking, Question, patience};
use crate::executable::{Executable, Opened};
use crate::exit::{Codes, Fault, Result};
use crate::settings::Settings;
use crate::terminal::err;

/// As shells say that there is no such command.
const NOT_FOUND: u8 = 127;
/// As shells say that it cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// As shells add it to the number of the signal that ended a command.
const BY_SIGNAL: i32 = 128;
/// Variables that a command has without being asked for them, where they are set: shown to the operator as all others.
const USUAL: [&str; 10] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TZ", "TMPDIR"];
/// Signals that are the command's to handle.
const FORWARDED: [i32; 7] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// Options of `run`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The action that is approved has the exact arguments, the working directory, the environment that the command
will have, and the path and SHA-256 of its executable. The executable is hashed again right before it runs, and runs
through the very file that was hashed. Libraries and interpreters that it loads are not part of it.

The command's environment holds PATH, HOME and their like, and what --env names, and nothing else. Values are shown to
the operator and kept; of --secret-env only the name is.

Exit codes: those of the command; 77 rejected or not to be used, 75 nobody answered in time, 76 cancelled, 126 or 127 the
command cannot be run, 64 wrong arguments or configuration, 69 no answer that counts.

Examples:
  relaytrace run --type deploy -- ./deploy.sh checkout 4.19.0
  relaytrace run --type db.migrate --env PGHOST --secret-env PGPASSWORD --wait 30m -- psql -f migration.sql"
)]
pub struct Options {
    #[command(flatten)]
    question: Question,
    /// A variable of this environment that the command gets, too.
    #[arg(long, value_name = "NAME")]
    env: Vec<String>,
    /// As --env, with a value that nobody is shown.
    #[arg(long, value_name = "NAME")]
    secret_env: Vec<String>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What is going to run.
struct Planned {
    argv: Vec<String>,
    executable: Executable,
    shown: BTreeMap<String, String>,
    hidden: BTreeMap<String, OsString>,
    cwd: String,
}

impl Planned {
    fn new(options: &Options) -> Result<Self> {
        let argv: Vec<String> = options.command.iter().map(|word| text(word)).collect::<Result<_>>()?;
        let search = std::env::var_os("PATH");
        let executable = Executable::find(&options.command[0], search.as_deref()).map_err(|error| {
            let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
            Fault { said: format!("{}: {error}", argv[0]), code }
        })?;
        text(executable.path.as_os_str())?;
        let cwd = std::env::current_dir().map_err(|error| Fault::usage(format!("no working directory: {error}")))?;
        let mut shown = BTreeMap::new();
        let asked_for = options.env.iter().map(|name| (name.as_str(), true));
        for (name, is_asked_for) in USUAL.into_iter().map(|name| (name, false)).chain(asked_for) {
            match std::env::var_os(name) {
                Some(value) => drop(shown.insert(name.to_owned(), text(&value)?)),
                None if is_asked_for => return Err(Fault::usage(format!("--env {name}: it is not set"))),
                None => {}
            }
        }
        let mut hidden = BTreeMap::new();
        for name in &options.secret_env {
            let value =
                std::env::var_os(name).ok_or_else(|| Fault::usage(format!("--secret-env {name}: it is not set")))?;
            shown.remove(name);
            hidden.insert(name.clone(), value);
        }
        Ok(Self { argv, executable, shown, hidden, cwd: text(cwd.as_os_str())? })
    }

    fn action(&self, kind: &str) -> Action {
        let mut arguments = json!({
            "argv": self.argv, "cwd": self.cwd, "env": self.shown,
            "executable": {"path": text(self.executable.path.as_os_str()).unwrap_or_default(), "sha256": self.executable.sha256},
        });
        if !self.hidden.is_empty() {
            arguments["secret_env"] = json!(self.hidden.keys().collect::<Vec<_>>());
        }
        Action::new(kind, arguments)
    }

    fn title(&self) -> String {
        let words = self.argv.iter().map(|word| if word.is_empty() { "''" } else { word });
        let line: String = words.collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect();
        format!("Run {line}")
    }

    /// Starts it from the bytes that were approved, and looks once more when nobody can write to them any longer.
    fn start(&self, opened: &Opened) -> Result<Child, String> {
        let said = |error: std::io::Error| format!("{} cannot be started: {error}", self.executable.path.display());
        let mut command = opened.command().map_err(said)?;
        command.arg0(&self.argv[0]).args(&self.argv[1..]).current_dir(&self.cwd).env_clear();
        command.envs(&self.shown).envs(&self.hidden);
        let mut child = command.spawn().map_err(said)?;
        // Once a program runs, the kernel lets nobody write to its file.
        opened.check().inspect_err(|_| drop(child.kill().and_then(|()| child.wait())))?;
        Ok(child)
    }
}

/// What cannot be shown to a person exactly is not asked.
fn text(given: &OsStr) -> Result<String> {
    given.to_str().map(str::to_owned).ok_or_else(|| {
        Fault::usage(format!("{} is no UTF-8, and cannot be shown to an operator as it is", given.to_string_lossy()))
    })
}

/// Asks, runs and reports; the exit code of the command.
pub async fn run(settings: &Settings, options: &Options) -> Result<u8> {
    let client = settings.client(patience())?;
    let planned = Planned::new(options)?;
    let envelope = options.question.envelope(&client, &planned.title(), planned.action(options.question.kind()))?;
    let mut asking = Asking::start(settings, &client)?;
    let permit = asking.permit(&envelope, &options.question).await.map_err(|error| Fault::of(&error, Codes::RUN))?;
    // From here on signals are the command's. One that came since the approval still stops it.
    let signals = SignalsInfo::<WithOrigin>::new(FORWARDED).map_err(|error| Fault::failed(error.to_string()));
    let started = match (asking.hand_over(), signals) {
        (true, _) => Err(Fault { said: "stopped before it ran".into(), code: Codes::RUN.cancelled }),
        (false, Err(fault)) => Err(fault),
        (false, Ok(signals)) => start(&planned).map(|child| (child, signals)),
    };
    let (child, signals) = match started {
        Ok(started) => started,
        Err(fault) => {
            report(&permit, Ended::Failed, &format!("It did not run: {}", fault.said)).await;
            return Err(fault);
        }
    };
    let ended = tokio::task::spawn_blocking(move || wait(child, signals)).await;
    let status = ended.map_err(|error| Fault::failed(error.to_string()))?;
    let status = status.map_err(|error| Fault::failed(format!("the command's end cannot be told: {error}")))?;
    let ended = if status.success() { Ended::Succeeded } else { Ended::Failed };
    report(&permit, ended, &status.to_string()).await;
    let code = status.code().unwrap_or_else(|| BY_SIGNAL + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

fn start(planned: &Planned) -> Result<Child> {
    let opened = planned.executable.open().map_err(|said| Fault { said, code: Codes::RUN.rejected })?;
    planned.start(&opened).map_err(|said| Fault { said, code: NOT_EXECUTABLE })
}

/// What has run stays so: a report that is lost is said, and the relay records the end as unknown.
async fn report(permit: &PermitInUse, ended: Ended, note: &str) {
    if let Err(lost) = permit.report(ended, Some(note)).await {
        err!("relaytrace run: the end of the command could not be reported: {lost}");
    }
}

/// Waits for the command, which gets the signals that others send to this process. What the terminal sends, it sends to
/// both.
fn wait(mut child: Child, mut signals: SignalsInfo<WithOrigin>) -> std::io::Result<ExitStatus> {
    let handle = signals.handle();
    let pid = Pid::from_raw(child.id().cast_signed());
    let forwarding = std::thread::spawn(move || {
        for Origin { signal, cause, .. } in signals.forever() {
            if !matches!(cause, Cause::Kernel)
                && let Ok(signal) = Signal::try_from(signal)
            {
                let _ = kill(pid, signal);
            }
        }
    });
    let status = child.wait();
    handle.close();
    drop(forwarding.join());
    status
}
