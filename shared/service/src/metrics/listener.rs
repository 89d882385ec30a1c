//! `GET /metrics`, on a listener of its own: never where callers are served.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::exposition;
use crate::http::{ServerLimits, server};
use crate::state::AppState;

/// A few scrapers, and nobody else.
const LIMITS: ServerLimits = ServerLimits {
    max_connections: 64,
    header_timeout: Duration::from_secs(5),
    body_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(75),
    grace: Duration::from_secs(1),
};

/// A listener that serves until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Ends it, within a second.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        drop(self.task.await);
    }
}

/// Serves the measures of this process.
///
/// # Errors
/// An address that cannot be had.
pub(crate) async fn listen(state: &AppState, address: SocketAddr) -> anyhow::Result<Listening> {
    let listener = TcpListener::bind(address);
    let listener = listener.await.with_context(|| format!("cannot listen on {address}, for METRICS_PORT"))?;
    let address = listener.local_addr()?;
    let address = *state.metrics.0.address.get_or_init(|| address);
    tracing::info!("metrics on http://{address}/metrics");
    let router = Router::new().route("/metrics", get(scrape)).with_state(state.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = server::serve(listener, router, LIMITS, async { drop(stopped.await) });
    Ok(Listening { stop, task: tokio::spawn(serving) })
}

async fn scrape(State(state): State<AppState>) -> Response {
    match exposition::text(state.metrics.families(&state).await) {
        Ok(text) => ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
