//! Ctrl-C and SIGTERM: whoever waits for them is told once, and what is to be cleaned up is cleaned up.

use std::sync::Arc;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Told when the run is to stop.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Listens from now on.
    pub fn listen() -> Result<Self> {
        let stop = Self(Arc::new(watch::Sender::new(false)));
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let sender = stop.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("Stopping …");
            sender.send_replace(true);
        });
        Ok(stop)
    }

    /// What the work comes to; nothing if the run is to stop before.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stopped = self.0.subscribe();
        tokio::select! {
            done = work => Some(done),
            _ = stopped.wait_for(|is_stopped| *is_stopped) => None,
        }
    }

    /// Whether it is to stop.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }
}
