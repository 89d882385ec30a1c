//! The layer below the functions: configuration, authentication, the HTTP edge, events, the relay, the runtime.
//!
//! Arrows point down: functions use this crate, this crate uses `relaytrace-store`, and both use `relaytrace-domain`.

pub mod auth;
pub mod config;
mod database_url;
pub mod events;
pub mod history;
pub mod http;
pub mod metrics;
pub mod needs;
pub mod relay;
pub mod replay;
pub mod runtime;
pub mod state;
pub mod telemetry;
pub mod traces;
pub mod vitals;
pub mod wait;

pub use needs::{DatabaseAuthority, Needs};
pub use state::AppState;

/// The allocator of every process that serves: with glibc's, a fifth of a call's CPU was spent in it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
