//! A private Postgres server: made at first use, started, stopped, killed and started again.
//!
//! Only TCP on 127.0.0.1, trusting whoever connects: it is for one machine whose users trust each
//! other, never for a deployment.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::Durability;
use crate::folder::{Folder, remove_folder_if_there};
use crate::port;
use crate::postgres_programs::{Programs, output};
use crate::process::{Running, Steps, children, end_left_over, is_marked, kill_all, tail};

/// The one role of a new server; it needs no password.
pub const SUPERUSER: &str = "relaytrace";

const LOG: &str = "postgres.log";
const PORT: &str = "port";
const DATA: &str = "data";
/// Where the data are made, so that a run cut short leaves none that are half made.
const UNFINISHED: &str = "data.unfinished";

/// Recovery after a kill can take its time on a slow disk.
const START_LIMIT: Duration = Duration::from_mins(2);
/// A fast shutdown: connections cut, a checkpoint written. What follows is the immediate one.
const FAST: Steps = &[(Signal::SIGINT, Duration::from_mins(1)), (Signal::SIGQUIT, Duration::from_secs(10))];
const IMMEDIATE: Steps = &[(Signal::SIGQUIT, Duration::from_secs(10))];
const ON_DROP: Steps = &[(Signal::SIGINT, Duration::from_secs(3)), (Signal::SIGQUIT, Duration::from_secs(2))];

/// How a Postgres server is run. A [`Durability`] alone will do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Durability of acknowledged writes.
    pub durability: Durability,
    /// More settings, as in `postgresql.conf`; they win over ours.
    pub settings: Vec<(String, String)>,
    /// The folder of the server's programs; `None`: the one that is found on this machine.
    pub programs: Option<PathBuf>,
}

impl From<Durability> for Options {
    fn from(durability: Durability) -> Self {
        Self { durability, ..Self::default() }
    }
}

/// A Postgres server of this process, stopped when dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: Programs,
    folder: Folder,
    data: PathBuf,
    log: PathBuf,
    options: Options,
    port: u16,
    running: Option<Running>,
}

impl Postgres {
    /// Starts a server whose data are below `dir`, made if missing, and waits until it answers.
    ///
    /// The port is the one of the last run on this folder if that is free. A server that a killed
    /// run left there is stopped first; one that is in use is an error.
    pub fn start(dir: &Path, options: impl Into<Options>) -> Result<Self> {
        let options = options.into();
        let programs = match &options.programs {
            Some(folder) => Programs::of_folder(folder)?,
            None => Programs::find(&dir.join(DATA))?,
        };
        let folder = Folder::take_for_ordinary_user(dir, LOG, DATA)?;
        let data = folder.path.join(DATA);
        let log = folder.write(LOG, "")?;
        let last_port = fs::read_to_string(folder.path.join(PORT)).ok().and_then(|text| text.trim().parse().ok());
        let mut server = Self { programs, folder, data, log, options, port: 0, running: None };
        server.end_left_over()?;
        if server.folder.abandoned {
            remove_folder_if_there(&server.data)?;
        }
        server.make_data_if_missing()?;
        server.folder.write("pg_hba.conf", "host all all 127.0.0.1/32 trust\n")?;
        server.port = port::free(last_port)?;
        for attempt in 1.. {
            match server.start_again() {
                Err(_) if attempt < 5 && tail(&server.log).contains("Address already in use") => {
                    server.port = port::free(None)?;
                    server.folder.write(LOG, "")?;
                }
                result => {
                    result?;
                    break;
                }
            }
        }
        server.folder.write(PORT, &server.port.to_string())?;
        Ok(server)
    }

    /// Starts the server that was stopped or killed, on its folder and port, and waits until it
    /// answers (which includes recovery). Nothing to do while it runs, so end it by the methods here:
    /// one that somebody else has killed a moment ago may still count as running.
    pub fn start_again(&mut self) -> Result<()> {
        self.forget_if_ended()?;
        for attempt in 1.. {
            if self.running.is_some() {
                break;
            }
            self.disown_pid_file()?;
            let begun = fs::metadata(&self.log).map_or(0, |log| log.len());
            let command = self.server_command();
            let mut running = Running::start(&self.folder, command, &self.log, &self.data, Signal::SIGINT)?;
            match running.wait_until(START_LIMIT, &self.log, |pid| self.is_ready(pid)) {
                Ok(()) => self.running = Some(running),
                Err(error) => {
                    running.end(IMMEDIATE)?;
                    let words = fs::read(&self.log).unwrap_or_default();
                    let words = String::from_utf8_lossy(words.get(usize::try_from(begun)?..).unwrap_or_default());
                    // Backends of a server that somebody killed live until they notice.
                    if attempt >= 100 || !words.contains("pre-existing shared memory block") {
                        return Err(error.context("cannot start Postgres"));
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
        Ok(())
    }

    /// Stops the server in order: connections are cut, what is open is rolled back.
    pub fn stop(&mut self) -> Result<()> {
        self.end(FAST)
    }

    /// Stops the server at once, as `pg_ctl stop -m immediate` does: recovery at the next start.
    pub fn stop_immediate(&mut self) -> Result<()> {
        self.end(IMMEDIATE)
    }

    /// Kills the server with SIGKILL, all of its processes.
    pub fn kill(&mut self) -> Result<()> {
        let backends = self.pid().map(children).unwrap_or_default();
        self.end(&[])?;
        kill_all(&backends, "postgres")
    }

    /// [`Self::stop`] and [`Self::start_again`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Creates the database unless it is there.
    pub fn create_database_if_missing(&self, name: &str) -> Result<()> {
        const EXISTS: &str = "SELECT FROM pg_database WHERE datname = :'name'";
        let script = format!("SELECT format('CREATE DATABASE %I', :'name') WHERE NOT EXISTS ({EXISTS}) \\gexec\n");
        let created = self.run_psql("postgres", Some(name), &script);
        // Somebody else may have created it in between.
        match created {
            Err(error)
                if self.run_psql("postgres", Some(name), &format!("SELECT 1 FROM ({EXISTS}) found;"))?.is_empty() =>
            {
                Err(error).with_context(|| format!("cannot create the database {name}"))
            }
            _ => Ok(()),
        }
    }

    /// Runs statements with `psql` as the superuser, stopping at the first error; the answer is its
    /// unaligned output without headings.
    pub fn psql(&self, database: &str, statements: &str) -> Result<String> {
        self.run_psql(database, None, statements)
    }

    /// Starts a `psql` of the superuser that takes statements from its standard input until that is closed: for a
    /// session that stays open. What it answers is lost.
    pub fn open_psql(&self, database: &str) -> Result<Child> {
        let mut command = self.psql_command(database);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("cannot run psql")
    }

    /// A command that runs one of Postgres's programs, such as `pg_dump`, as the user who owns the server's data.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        self.command(name)
    }

    /// Where clients find a database, as the superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1, the same for the life of this value.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server (the postmaster), unless it was stopped or killed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where the data are.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    fn end(&mut self, steps: Steps) -> Result<()> {
        self.running.take().map_or(Ok(()), |running| running.end(steps)).context("cannot stop Postgres")
    }

    fn forget_if_ended(&mut self) -> Result<()> {
        if let Some(running) = &mut self.running
            && running.ended()?.is_some()
        {
            self.end(&[])?;
        }
        Ok(())
    }

    /// A command without the caller's PG… variables, which would have their say in it.
    fn command(&self, program: &str) -> Command {
        let mut command = self.folder.command(&self.programs.path(program));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        // Messages that we look for are English; and macOS wants a locale that is set.
        command.env_remove("LANGUAGE").env("LC_ALL", "C");
        command
    }

    fn server_command(&self) -> Command {
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data);
        let mut set = |name: &str, value: &str| {
            command.arg("-c").arg(format!("{name}={value}"));
        };
        set("listen_addresses", "127.0.0.1");
        set("port", &self.port.to_string());
        // A path may be too long for a socket (107 bytes), and TCP is enough.
        set("unix_socket_directories", "");
        set("max_connections", "200");
        set("timezone", "UTC");
        set("log_timezone", "UTC");
        set("shared_preload_libraries", "pg_stat_statements");
        if self.options.durability == Durability::Throwaway {
            set("fsync", "off");
            set("synchronous_commit", "off");
            set("full_page_writes", "off");
        }
        for (name, value) in &self.options.settings {
            set(name, value);
        }
        let mut hba = std::ffi::OsString::from("hba_file=");
        hba.push(self.folder.path.join("pg_hba.conf"));
        command.arg("-c").arg(hba);
        command
    }

    fn make_data_if_missing(&self) -> Result<()> {
        if self.data.join("PG_VERSION").exists() {
            return Ok(());
        }
        remove_folder_if_there(&self.folder.path.join(UNFINISHED))?;
        let unfinished = self.folder.make_inside(UNFINISHED)?;
        let mut initdb = self.command("initdb");
        initdb
            .args(["--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"])
            .arg("--no-instructions");
        if self.options.durability == Durability::Throwaway {
            initdb.arg("--no-sync");
        }
        output(initdb.arg("-D").arg(&unfinished)).context("cannot make the Postgres data folder")?;
        fs::rename(&unfinished, &self.data).context("cannot move the new data folder to its place")
    }

    /// The first lines of `postmaster.pid`: the process id; on the eighth, its state.
    fn pid_file(&self) -> Option<(u32, String)> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        Some((pid, text.lines().nth(7).unwrap_or_default().trim().to_owned()))
    }

    /// As `pg_ctl --wait` finds out: a TCP connection could be answered by somebody else.
    fn is_ready(&self, pid: u32) -> bool {
        self.pid_file() == Some((pid, "ready".to_owned()))
    }

    /// Stops the server of a run that was killed. The folder is locked, so nobody else owns it.
    fn end_left_over(&self) -> Result<()> {
        match self.pid_file() {
            Some((pid, _)) if is_marked(pid, &self.data) => end_left_over(pid, &self.data, FAST),
            _ => Ok(()),
        }
    }

    /// Lets Postgres see that the pid file of a dead server is stale though some other process has
    /// got its number since (which it would take for the server, and refuse to start).
    ///
    /// The file stays, with the number of its future parent, which Postgres never takes for a
    /// server: by the rest of the file it finds out whether backends of the dead server still live.
    fn disown_pid_file(&self) -> Result<()> {
        let path = self.data.join("postmaster.pid");
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(());
        };
        let Some((pid, rest)) = text.split_once('\n') else {
            return Ok(());
        };
        let Ok(pid) = pid.trim().parse() else {
            return Ok(());
        };
        ensure!(!is_marked(pid, &self.data), "a server that this did not start runs on {}", self.data.display());
        let replaced = self.folder.write("postmaster.pid", &format!("{}\n{rest}", std::process::id()))?;
        if let Some(account) = self.folder.account {
            std::os::unix::fs::lchown(&replaced, Some(account.uid), Some(account.gid))?;
        }
        fs::rename(&replaced, &path).context("cannot replace a stale pid file")
    }

    fn psql_command(&self, database: &str) -> Command {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", SUPERUSER]);
        command.args(["-p", &self.port.to_string(), "-d", database]);
        command
    }

    fn run_psql(&self, database: &str, name: Option<&str>, statements: &str) -> Result<String> {
        ensure!(self.running.is_some(), "Postgres is stopped");
        let mut command = self.psql_command(database);
        if let Some(name) = name {
            command.arg("-v").arg(format!("name={name}"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run psql")?;
        let input = child.stdin.take();
        // Beside reading, as psql answers while it reads; if it ends early, it says why.
        let output = std::thread::scope(|scope| {
            scope.spawn(|| input.map(|mut input| input.write_all(statements.as_bytes())));
            child.wait_with_output()
        })?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let steps = if self.options.durability == Durability::Durable { ON_DROP } else { IMMEDIATE };
        if let Some(running) = self.running.take() {
            drop(running.end(steps));
        }
    }
}
