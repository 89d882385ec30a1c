//! HTTP, the same for every function: problem documents, bodies, and the edge that authenticates, signs and logs.

mod body;
mod cors;
mod edge;
mod known;
mod params;
mod problem;
mod routes;
pub(crate) mod server;
mod unread;
mod views;

use std::sync::Arc;

use axum::extract::State;
use axum::{Json, Router};
use serde::Serialize;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::ToSchema;

pub use body::{JsonBody, JsonBytes, MAX_BODY_BYTES};
pub use edge::Trace;
pub use params::{Cursor, Page, Path, Query, clamped, parse_list, parse_one, preferred_wait};
pub use problem::Problem;
pub use routes::{Routes, filter};
pub use server::ServerLimits;
// For `routes!`.
#[doc(hidden)]
pub use utoipa_axum;
pub use views::{DecisionView, RequestView};

use crate::state::AppState;
use relaytrace_domain::Error;

/// The request that a response is about, for the log; a handler puts it into the response's extensions.
#[derive(Clone, Copy, Debug)]
pub struct RequestOf(pub relaytrace_domain::RequestId);

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

/// The routes that every function has: `/healthz` and `/readyz`.
pub fn common_routes() -> Routes {
    crate::routes!(health, readiness)
}

/// Adds what every function has around its routes: 404 and 405 as problems, the edge, and pages of other origins.
pub fn service(routes: Routes, state: AppState) -> Router {
    let known = Arc::new(routes.known_parameters());
    routes
        .into_router()
        .fallback(async || Error::NotFound)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(CatchPanicLayer::custom(problem::after_panic))
        .layer(axum::middleware::from_fn_with_state((state.clone(), known), edge::edge))
        .layer(option_layer(cors::layer(&state.page.origins)))
        .with_state(state)
}

/// That the process is up.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
}

/// Is the process up?
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It is", body = Health)))]
async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Can it serve?
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "Postgres answers", body = Readiness),
    (status = 503, description = "It does not", body = Problem, content_type = "application/problem+json"),
))]
async fn readiness(State(state): State<AppState>) -> Result<Json<Readiness>, Error> {
    let (postgres, nats) = tokio::join!(state.store.can_write(), state.events.is_connected());
    postgres.map_err(Error::into_unavailable)?;
    let nats = if nats { "connected" } else { "not connected" };
    Ok(Json(Readiness { status: "ready", postgres: "connected", nats }))
}
