//! Private Postgres and NATS servers on free ports of 127.0.0.1, each in a folder of its own: for
//! the local stack, the tests, the benches and the drills.
//!
//! Invariants:
//! - A folder has one owner: while a [`Postgres`] or [`Nats`] exists, no other process (and no other
//!   value in this one) can start a server on the same folder.
//! - No server outlives its owner: it is stopped when the value is dropped and, by a watchdog, when
//!   the owner dies without a chance to clean up. What is left over all the same is found and
//!   stopped at the next start on that folder.
//! - No process is signalled because of its number alone: its command line must name our folder.
//! - Postgres never runs as root: started by root, it runs as an ordinary user, and its folder goes
//!   below `/var/tmp` where that user cannot reach the one asked for.
//!
//! Everything blocks; in async code use `spawn_blocking`, also for dropping.
//!
//! ```no_run
//! use relaytrace_servers::{Durability, Nats, Postgres};
//!
//! # fn main() -> anyhow::Result<()> {
//! let folder = relaytrace_servers::scratch_folder()?;
//! let mut postgres = Postgres::start(&folder.path().join("postgres"), Durability::Throwaway)?;
//! let nats = Nats::start(&folder.path().join("nats"), Durability::Throwaway)?;
//! postgres.create_database_if_missing("relaytrace")?;
//! println!("{} {}", postgres.url("relaytrace"), nats.url());
//! postgres.kill()?;
//! postgres.start_again()?;
//! # Ok(())
//! # }
//! ```

mod folder;
mod nats;
mod port;
mod postgres;
mod postgres_programs;
mod process;

pub use folder::scratch_folder;
pub use nats::Nats;
pub use port::free as free_port;
pub use postgres::{Options as PostgresOptions, Postgres, SUPERUSER};

/// Durability of a server's acknowledged writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Every acknowledged write is on the disk: Postgres with its defaults, `JetStream` syncing at
    /// every message. For the local stack, the benches and the drills.
    #[default]
    Durable,
    /// Nothing waits for the disk: survives the death of the server, not that of the machine. For
    /// tests.
    Throwaway,
}
