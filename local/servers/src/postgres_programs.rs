//! Finds Postgres's programs, which most systems keep away from PATH.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The oldest major version that the migrations are written for.
const OLDEST: u32 = 15;

/// The folder of a complete set of programs, and its version.
#[derive(Debug)]
pub struct Programs {
    folder: PathBuf,
    /// Where `psql` and the like are, if elsewhere.
    clients: Option<PathBuf>,
    major: u32,
}

impl Programs {
    /// The first complete set among PATH, `pg_config --bindir`, and where Debian and Homebrew put
    /// them (newest first); for a data folder that exists, the first one of its version.
    pub fn find(data: &Path) -> Result<Self> {
        let made_by: Option<u32> =
            fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|text| text.trim().parse().ok());
        let mut found: Vec<Self> = Vec::new();
        for programs in candidates().iter().filter_map(|folder| Self::in_folder(folder)) {
            if made_by.is_none_or(|major| major == programs.major) && programs.major >= OLDEST {
                return Ok(programs);
            }
            found.push(programs);
        }
        let found: Vec<String> = found.iter().map(|programs| programs.major.to_string()).collect();
        match made_by {
            Some(major) if !found.is_empty() => bail!(
                "{} was made by Postgres {major}, of which there is only version {} here: install {major}, or remove the \
                 folder to start afresh",
                data.display(),
                found.join(", ")
            ),
            _ if found.is_empty() => {
                bail!("Postgres is not installed: run `local/setup`, which installs it")
            }
            _ => bail!("Postgres {OLDEST} or newer is needed, not {}: run `local/setup`", found.join(", ")),
        }
    }

    /// The server's programs of this folder; clients that it lacks are those that [`Self::find`] finds.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let version = output(Command::new(folder.join("postgres")).arg("--version"))?;
        let major = major(&version).with_context(|| format!("no version in {version:?}"))?;
        let clients = candidates().iter().find_map(|folder| Self::in_folder(folder)).context("there is no psql")?;
        Ok(Self { folder: folder.to_owned(), clients: Some(clients.folder), major })
    }

    /// The path of one of the programs.
    pub fn path(&self, program: &str) -> PathBuf {
        let path = self.folder.join(program);
        match &self.clients {
            Some(clients) if !path.is_file() => clients.join(program),
            _ => path,
        }
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        // A link may lead from PATH to the server alone; its companions are where it really is.
        let folder = folder.join("postgres").canonicalize().ok()?.parent()?.to_owned();
        if !["initdb", "psql"].iter().all(|program| folder.join(program).is_file()) {
            return None;
        }
        let major = major(&output(Command::new(folder.join("postgres")).arg("--version")).ok()?)?;
        Some(Self { folder, clients: None, major })
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    folders.extend(output(Command::new("pg_config").arg("--bindir")).map(|line| PathBuf::from(line.trim())));
    folders.extend(versions("/usr/lib/postgresql", ""));
    folders.extend(versions("/opt/homebrew/opt", "postgresql@"));
    folders.extend(versions("/usr/local/opt", "postgresql@"));
    folders
}

/// `bin` of the folders called `prefix` and a version, newest first.
fn versions(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.split('.').next()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// 15 of `postgres (PostgreSQL) 15.4 (Debian 15.4-1)`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    let digits = number.split(|next: char| !next.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// A program's standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        assert_eq!(major("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 17beta1\n"), Some(17));
        assert_eq!(major("postgres (PostgreSQL)\n"), None);
    }
}
