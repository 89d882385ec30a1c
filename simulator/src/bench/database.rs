//! The databases of the bench's cluster, through Postgres's own programs: psql and pgbench.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use url::Url;

/// As whom the functions log in; pgbench does the same.
const SERVICE_ROLE: &str = "relaytrace_service";

/// Where psql and pgbench are.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The first folder with both: of PATH, of `pg_config --bindir`, and where Debian and Homebrew put them.
    pub fn find() -> Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
        let said = std::process::Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output();
        folders.extend(said.map(|said| PathBuf::from(String::from_utf8_lossy(&said.stdout).trim())));
        for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
            let mut versions: Vec<_> = Path::new(parent).read_dir().into_iter().flatten().flatten().collect();
            versions.sort_by_key(|version| std::cmp::Reverse(version.file_name()));
            folders.extend(versions.into_iter().map(|version| version.path().join("bin")));
        }
        let folder =
            folders.into_iter().find(|folder| ["pgbench", "psql"].iter().all(|name| folder.join(name).is_file()));
        let folder = folder.context(
            "pgbench was not found: it comes with Postgres's server (Debian: postgresql) or its contributed \
             programs (Fedora: postgresql-contrib); run `local/setup`, or put it on PATH",
        )?;
        Ok(Self { folder })
    }

    /// A command that asks nobody and takes nothing from the caller's PG… variables.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

/// A database of the cluster.
#[derive(Clone, Debug)]
pub struct Database {
    programs: Programs,
    /// As the superuser.
    url: Url,
}

/// How long pgbench runs.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    Seconds(u64),
    TransactionsEach(u64),
}

/// Statements are planned once, not for each call: the floor is the least that they cost.
const PLANNED_ONCE: &str = "-c plan_cache_mode=force_generic_plan";

/// A run of pgbench.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    pub script: &'a Path,
    pub clients: usize,
    pub limit: Limit,
    /// What it writes may be lost in a crash, and nobody waits for the disk.
    pub is_volatile: bool,
    pub variables: &'a [(&'static str, String)],
}

/// pgbench's output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ran {
    /// Transactions in total.
    pub transactions: u64,
    /// Those per second, once warm.
    pub per_second: f64,
}

impl Database {
    /// The database that a `postgres:` URL of its superuser names.
    pub fn at(programs: Programs, url: &str) -> Result<Self> {
        Ok(Self { programs, url: url.parse().context("the stack's database_url is no URL")? })
    }

    /// Another database of the same cluster.
    pub fn sibling(&self, name: &str) -> Self {
        let mut sibling = self.clone();
        sibling.url.set_path(name);
        sibling
    }

    fn url_of_service(&self) -> Result<Url> {
        let mut url = self.url.clone();
        ensure!(url.set_username(SERVICE_ROLE).is_ok(), "the stack's database_url names no host");
        Ok(url)
    }

    /// Runs statements with psql as the superuser; the answer is its unaligned output without headings.
    pub async fn psql(&self, statements: &str) -> Result<String> {
        let mut command = self.programs.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]).arg(self.url.as_str());
        output(command, statements).await
    }

    /// A number that a query answers with.
    pub async fn count(&self, query: &str) -> Result<u64> {
        let said = self.psql(query).await?;
        said.trim().parse().with_context(|| format!("psql answered {said:?} to {query}"))
    }

    /// Starts pgbench as the functions' own role: prepared statements, no vacuum of tables that it does not know.
    pub fn pgbench(&self, run: &Run<'_>) -> Result<Command> {
        let mut command = self.programs.command("pgbench");
        let threads = run.clients.min(2).to_string();
        command.args(["-M", "prepared", "-n", "-P", "1", "-c", &run.clients.to_string(), "-j", &threads]);
        match run.limit {
            Limit::Seconds(seconds) => command.args(["-T", &seconds.to_string()]),
            Limit::TransactionsEach(transactions) => command.args(["-t", &transactions.to_string()]),
        };
        let settings = if run.is_volatile { " -c synchronous_commit=off" } else { "" };
        command.env("PGOPTIONS", format!("{PLANNED_ONCE}{settings}"));
        for (name, value) in run.variables {
            command.arg("-D").arg(format!("{name}={value}"));
        }
        command.arg("-f").arg(run.script).arg(self.url_of_service()?.as_str());
        Ok(command)
    }
}

/// Runs the command with this on its standard input; what it says on its standard output.
pub async fn output(command: Command, input: &str) -> Result<String> {
    let output = finish(command, input, |_| ()).await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs pgbench; its rate leaves out the warm-up. `started` hears its process id.
pub async fn measure(command: Command, warm_up: Duration, started: impl FnOnce(u32)) -> Result<Ran> {
    let output = finish(command, "", started).await?;
    let (report, progress) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let transactions = transactions(&report).with_context(|| format!("pgbench reported:\n{report}"))?;
    let per_second = warm_rate(&progress, warm_up.as_secs_f64()).unwrap_or_default();
    Ok(Ran { transactions, per_second })
}

async fn finish(mut command: Command, input: &str, started: impl FnOnce(u32)) -> Result<Output> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command.stdin(Stdio::piped()).spawn().with_context(|| format!("cannot run {name}"))?;
    if let Some(id) = child.id() {
        started(id);
    }
    let mut stdin = child.stdin.take();
    let write = async {
        if let Some(stdin) = &mut stdin {
            // A program that ends early says why by itself.
            drop(stdin.write_all(input.as_bytes()).await);
        }
        drop(stdin.take());
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}\n{}", output.status, said.trim_end());
    Ok(output)
}

/// Of `number of transactions actually processed: 1234`, or `1234/5000`.
fn transactions(report: &str) -> Option<u64> {
    let line = report.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "))?;
    line.split('/').next()?.trim().parse().ok()
}

/// The mean of `progress: 2.0 s, 9876.5 tps, …` after the warm-up.
fn warm_rate(progress: &str, warm_up: f64) -> Option<f64> {
    let (mut seconds, mut transactions, mut before) = (0.0, 0.0, 0.0);
    for line in progress.lines().filter_map(|line| line.strip_prefix("progress: ")) {
        let (at, rest) = line.split_once(" s, ")?;
        let (at, rate): (f64, f64) = (at.parse().ok()?, rest.split_once(" tps")?.0.parse().ok()?);
        // An interval that begins a moment early is warm all the same.
        if before > warm_up - 0.1 {
            seconds += at - before;
            transactions += rate * (at - before);
        }
        before = at;
    }
    (seconds > 0.0).then(|| transactions / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_pgbench_are_read() {
        let report =
            "transaction type: x.sql\nnumber of transactions actually processed: 1234\nlatency average = 1 ms\n";
        assert_eq!(transactions(report), Some(1234));
        assert_eq!(transactions("number of transactions actually processed: 64/64\n"), Some(64));
        assert_eq!(transactions("pgbench: error\n"), None);
    }

    #[test]
    fn the_warm_up_does_not_count() {
        let progress = "pgbench (15.4)\nprogress: 1.0 s, 1000.0 tps, lat 3.1 ms stddev 1.0, 0 failed\n\
                        progress: 2.0 s, 2000.0 tps, lat 3.1 ms\nprogress: 4.0 s, 5000.0 tps, lat 3 ms\n";
        assert_eq!(warm_rate(progress, 1.0), Some(4000.0));
        assert_eq!(warm_rate(progress, 0.0), Some(3250.0));
        assert_eq!(warm_rate(progress, 9.0), None);
    }
}
