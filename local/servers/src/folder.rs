//! A server's folder: its owner, its real path, and a lock for one process at a time.
//!
//! Run by root, the folder itself stays root's (mode 0711), so that no file which root writes can be
//! a link planted by the ordinary user; only the data folder inside belongs to that user.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::process::TICK;

/// Where servers' folders go that an ordinary user could not reach. Kept over a restart of the
/// machine, unlike `/tmp`.
const REACHABLE_BY_ALL: &str = "/var/tmp";

/// How long to wait for the lock on a folder.
const LOCK_LIMIT: Duration = Duration::from_secs(2);

/// The ordinary user as whom a root process runs Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its user id; never 0.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

impl Account {
    /// `postgres` where it exists (Debian's packages make it), else `nobody`.
    fn for_servers() -> Result<Self> {
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name)?.filter(|user| !user.uid.is_root()) {
                return Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() });
            }
        }
        bail!("Postgres refuses to run as root, and there is no user `postgres` or `nobody` to run it as")
    }

    /// Whether this user gets into the folder, asked of the system itself: by going there.
    fn reaches(self, folder: &Path) -> bool {
        Command::new("/bin/sh")
            .args(["-c", ":"])
            .current_dir(folder)
            .uid(self.uid)
            .gid(self.gid)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Makes a fresh temporary folder, removed when dropped, in which both servers can run also when
/// root starts them (a temporary folder as usual is its owner's alone).
///
/// Drop the servers first: declare the folder before them, or after them in a struct.
pub fn scratch_folder() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("relaytrace-");
    let made = if geteuid().is_root() {
        builder.permissions(Permissions::from_mode(0o711));
        let usual = std::env::temp_dir();
        let base = if Account::for_servers()?.reaches(&usual) { usual } else { REACHABLE_BY_ALL.into() };
        builder.tempdir_in(base)
    } else {
        builder.tempdir()
    };
    made.context("cannot make a temporary folder")
}

/// A folder that this process, and nobody else, uses for one server.
#[derive(Debug)]
pub struct Folder {
    /// Where it really is, with no links in it.
    pub path: PathBuf,
    /// As whom the server runs, where that is not this process's own user.
    pub account: Option<Account>,
    /// Whether what is in it is nobody's any more: the link to it was removed.
    pub abandoned: bool,
    /// The folder, open and locked.
    lock: File,
}

impl Folder {
    /// Takes the folder for a server that may run as whoever this process is. `log` names the file
    /// by which a folder of ours is recognised.
    pub fn take(asked: &Path, log: &str) -> Result<Self> {
        let asked = std::path::absolute(asked)?;
        make_all(&asked, 0o700)?;
        Self::lock(&asked, log, None)
    }

    /// Takes the folder for a server that must not run as root and keeps its data in `data`.
    pub fn take_for_ordinary_user(asked: &Path, log: &str, data: &str) -> Result<Self> {
        let asked = std::path::absolute(asked)?;
        if !geteuid().is_root() {
            return Self::take(&asked, log);
        }
        // Data that an ordinary user made stay that user's.
        if let Ok(data) = asked.join(data).canonicalize() {
            let found = fs::metadata(&data)?;
            let account = Account { uid: found.uid(), gid: found.gid() };
            ensure!(account.uid != 0, "{} belongs to root, as whom Postgres does not run", data.display());
            ensure!(
                account.reaches(&data),
                "{} belongs to user {}, who cannot get there: open the folders above it, or remove \
                 it to start afresh",
                data.display(),
                account.uid
            );
            return Self::lock(&asked, log, Some(account));
        }
        let account = Account::for_servers()?;
        let parent = asked.parent().context("the root folder is no place for a server")?;
        make_all(parent, 0o755)?;
        let linked_anew = if account.reaches(parent) {
            make_all(&asked, 0o711)?;
            false
        } else {
            make_link(&asked, &reachable_place(&asked)?)?
        };
        let mut folder = Self::lock(&asked, log, Some(account))?;
        folder.abandoned = linked_anew;
        fs::set_permissions(&folder.path, Permissions::from_mode(0o711))?;
        Ok(folder)
    }

    fn lock(asked: &Path, log: &str, account: Option<Account>) -> Result<Self> {
        let explain =
            || format!("cannot use the folder {} (was it made by another user, such as root?)", asked.display());
        let path = asked.canonicalize().with_context(explain)?;
        let lock = File::open(&path).with_context(explain)?;
        // A process that was just killed may have left a child that has not run its program yet, and
        // holds the lock until it does.
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_LIMIT => sleep(TICK),
                Err(TryLockError::WouldBlock) => {
                    bail!("the folder {} is in use by another process: is a stack running on it?", asked.display())
                }
                Err(TryLockError::Error(error)) => return Err(error).with_context(explain),
            }
        }
        let ours = path.join(log).exists();
        let empty = fs::read_dir(&path).with_context(explain)?.next().is_none();
        ensure!(ours || empty, "the folder {} is neither empty nor one that this made", asked.display());
        Ok(Self { path, account, abandoned: false, lock })
    }

    /// Makes a folder inside, owned by the user as whom the server runs and closed to others.
    pub fn make_inside(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        if let Some(account) = self.account {
            std::os::unix::fs::lchown(&path, Some(account.uid), Some(account.gid))?;
        }
        Ok(path)
    }

    /// Writes a file of the folder anew, never through what is there under its name.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        let written = remove_file_if_there(&path)
            .and_then(|()| File::create_new(&path))
            .and_then(|mut file| file.write_all(content.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// A command that runs in this folder, as the user who owns the server's data.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.path).stdin(Stdio::null());
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing is not enough while a child of another thread has not run its program yet.
        drop(self.lock.unlock());
    }
}

/// Removes a folder and its content; a missing folder is no error.
pub fn remove_folder_if_there(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn remove_file_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the folder and those above it; `mode` counts for those that were missing.
fn make_all(path: &Path, mode: u32) -> Result<()> {
    // A link that leads nowhere: what it led to was cleared away.
    if path.is_symlink() && !path.exists() {
        fs::remove_file(path).with_context(|| format!("cannot remove the dead link {}", path.display()))?;
    }
    let above = path.parent().map_or(Ok(()), |parent| DirBuilder::new().recursive(true).create(parent));
    above
        .and_then(|()| DirBuilder::new().recursive(true).mode(mode).create(path))
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// The folder below `/var/tmp` that stands in for `asked`; made if need be. Its name can be guessed,
/// so one that somebody else made there is refused.
fn reachable_place(asked: &Path) -> Result<PathBuf> {
    let name = asked.parent().and_then(|parent| parent.canonicalize().ok()).unwrap_or_default();
    let name = name.join(asked.file_name().unwrap_or_default());
    let place = Path::new(REACHABLE_BY_ALL).join(format!("relaytrace-{:016x}", fnv1a(name.as_os_str().as_bytes())));
    match DirBuilder::new().mode(0o711).create(&place) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", place.display()));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(&place)?;
    ensure!(
        found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0,
        "{} was made by somebody else: remove it",
        place.display()
    );
    Ok(place)
}

/// Leaves a link at `asked` that says where its folder is; false if it was there.
fn make_link(asked: &Path, place: &Path) -> Result<bool> {
    if asked.canonicalize().is_ok_and(|real| real == place) {
        return Ok(false);
    }
    let cleared = if asked.is_symlink() { fs::remove_file(asked) } else { fs::remove_dir(asked) };
    match cleared {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error)
                .with_context(|| format!("cannot put a link to {} at {}", place.display(), asked.display()));
        }
        _ => {}
    }
    symlink(place, asked).with_context(|| format!("cannot make the link {}", asked.display()))?;
    Ok(true)
}

/// FNV-1a, 64 bits: a name must be the same after the next compiler, too.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
