//! HTTP, the same for every function: problem documents, bodies, and the edge that authenticates, signs and logs.

mod body;
mod edge;
mod params;
mod problem;
mod views;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

pub use body::{JsonBody, JsonBytes};
pub use edge::Trace;
pub use params::{Cursor, Page, Path, Query, clamped, parse_list};
pub use problem::Problem;
pub use views::{DecisionView, RequestView};

use crate::error::Error;
use crate::state::AppState;

/// The request that a response is about, for the log; a handler puts it into the response's extensions.
#[derive(Clone, Copy, Debug)]
pub struct RequestOf(pub crate::domain::RequestId);

/// Readiness (contract, "Endpoints").
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`.
    status: &'static str,
    /// Postgres answers.
    postgres: &'static str,
    /// NATS is connected; reported, not required.
    nats: &'static str,
}

/// Adds what every function has: health, readiness, 404 and 405 as problems, and the edge.
pub fn service(routes: OpenApiRouter<AppState>, state: AppState) -> Router {
    let (router, _) = routes.split_for_parts();
    router
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .fallback(async || Error::NotFound)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(CatchPanicLayer::custom(problem::after_panic))
        .layer(axum::middleware::from_fn_with_state(state.clone(), edge::edge))
        .with_state(state)
}

async fn health() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({"status": "ok"}))
}

async fn readiness(State(state): State<AppState>) -> Result<axum::Json<Readiness>, Error> {
    let (postgres, nats) = tokio::join!(state.store.ping(), state.events.is_connected());
    postgres.map_err(Error::into_unavailable)?;
    let nats = if nats { "connected" } else { "not connected" };
    Ok(axum::Json(Readiness { status: "ready", postgres: "connected", nats }))
}
