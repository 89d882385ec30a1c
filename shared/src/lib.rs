//! The domain crate of RelayTrace: everything its functions share.
//!
//! Dependencies point inwards: [`domain`] imports nothing of this crate, [`store`], [`events`],
//! [`auth`] and [`signing`] import [`domain`], and [`replay`], [`http`] and [`runtime`] put them together.

pub mod auth;
pub mod clock;
pub mod config;
pub mod domain;
pub mod error;
pub mod events;
pub mod failure;
pub mod http;
pub mod replay;
pub mod runtime;
pub mod signing;
pub mod state;
pub mod store;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use clock::Clock;
pub use error::{Error, Result};
pub use failure::Failure;
pub use state::AppState;
