//! Free ports of 127.0.0.1, outside the range from which outgoing connections get theirs.
//!
//! A port of that range could be taken by any connection while its server is down for a restart; a
//! client that keeps trying to reconnect can even be connected to itself.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result};

/// Below the outgoing range of Linux (from 32768) and macOS (from 49152).
const RANGE: Range<u16> = 15_000..30_000;

/// A number that differs from call to call and from process to process; no secret.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The preferred port if it is free, else a free one. That it is still free when the server takes it
/// is likely, not certain.
pub fn free(preferred: Option<u16>) -> Result<u16> {
    let chosen = std::iter::repeat_with(|| {
        let offset = random() % u64::from(RANGE.end - RANGE.start);
        RANGE.start + u16::try_from(offset).unwrap_or(0)
    });
    preferred
        .into_iter()
        .chain(chosen.take(200))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .with_context(|| format!("no free port among {}–{} of 127.0.0.1", RANGE.start, RANGE.end))
}
