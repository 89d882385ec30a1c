//! The very file that was approved, and starting it: what runs is what was hashed.
//!
//! A program is executed through the descriptor that was hashed, so a file that takes its place is never run. A script is
//! read by its interpreter while it runs: it is copied to memory that nobody can change, hashed there, and run from there.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{Context, SHA256};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// What a script begins with.
const SCRIPT: &[u8] = b"#!";

/// An executable file as it was when it was opened.
#[derive(Debug)]
pub struct Executable {
    /// Where it is, without symbolic links.
    pub path: PathBuf,
    /// `sha256:` and the SHA-256 of its bytes.
    pub sha256: String,
}

impl Executable {
    /// As the shell finds it: a path, or a name in `PATH`.
    pub fn find(program: &OsStr, search: Option<&OsStr>) -> std::io::Result<Self> {
        let path = located(program, search)?.canonicalize()?;
        let sha256 = hash(&mut File::open(&path)?)?;
        Ok(Self { path, sha256 })
    }

    /// Opens it again, right before it runs: the bytes must be those that were approved.
    pub fn open(&self) -> Result<Opened, String> {
        let said = |error: std::io::Error| format!("{} cannot be opened: {error}", self.path.display());
        let mut file = File::open(&self.path).map_err(said)?;
        let mut start = Vec::new();
        file.by_ref().take(SCRIPT.len() as u64).read_to_end(&mut start).map_err(said)?;
        file.seek(SeekFrom::Start(0)).map_err(said)?;
        if start == SCRIPT {
            file = sealed(&mut file).map_err(said)?;
        }
        let opened = Opened { file, path: self.path.clone(), sha256: self.sha256.clone() };
        opened.check()?;
        Ok(opened)
    }
}

/// The bytes that run.
#[derive(Debug)]
pub struct Opened {
    file: File,
    path: PathBuf,
    sha256: String,
}

impl Opened {
    /// Whether the bytes are still those that were approved.
    pub fn check(&self) -> Result<(), String> {
        let mut file = self.file.try_clone().map_err(|error| error.to_string())?;
        let found = file.seek(SeekFrom::Start(0)).and_then(|_| hash(&mut file));
        match found {
            Ok(found) if found == self.sha256 => Ok(()),
            Ok(found) => Err(format!(
                "{} is not what was approved any more: it is {found}, approved was {}",
                self.path.display(),
                self.sha256
            )),
            Err(error) => Err(format!("{} cannot be read: {error}", self.path.display())),
        }
    }

    /// A command that executes these bytes. It is good while this value lives.
    pub fn command(&self) -> std::io::Result<Command> {
        if !cfg!(target_os = "linux") {
            return Ok(Command::new(&self.path));
        }
        // An interpreter opens the same descriptor: the child keeps it.
        fcntl(&self.file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd())))
    }
}

fn located(program: &OsStr, search: Option<&OsStr>) -> std::io::Result<PathBuf> {
    let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such command");
    let is_executable =
        |path: &Path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let path = Path::new(program);
    if path.components().count() > 1 || program.to_string_lossy().contains('/') {
        let denied = || std::io::Error::new(std::io::ErrorKind::PermissionDenied, "it is no executable file");
        path.metadata()?;
        return if is_executable(path) { Ok(path.to_owned()) } else { Err(denied()) };
    }
    let folders = std::env::split_paths(search.ok_or_else(missing)?);
    folders.map(|folder| folder.join(path)).find(|path| is_executable(path)).ok_or_else(missing)
}

fn hash(file: &mut File) -> std::io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => context.update(&buffer[..read]),
        }
    }
    let hash = context.finish();
    Ok(hash.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

/// A copy in memory that nobody can change any more, not even its maker.
#[cfg(target_os = "linux")]
fn sealed(file: &mut File) -> std::io::Result<File> {
    use nix::fcntl::SealFlag;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    let mut copy = File::from(memfd_create(c"relaytrace-run", flags)?);
    std::io::copy(file, &mut copy)?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy)
}

#[cfg(not(target_os = "linux"))]
fn sealed(file: &mut File) -> std::io::Result<File> {
    file.try_clone()
}
