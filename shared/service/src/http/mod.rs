//! HTTP, the same for every function: problem documents, bodies, and the edge that authenticates, signs and logs.

mod body;
mod cors;
mod dialect;
mod edge;
mod health;
mod known;
mod operators;
mod params;
mod problem;
mod routes;
pub(crate) mod server;
mod unread;
mod views;

use std::sync::Arc;

use axum::Router;

pub use body::{JsonBody, JsonBytes, MAX_BODY_BYTES};
pub use dialect::{Dialect, InProblems, Told};
pub use edge::Trace;
pub use health::Readiness;
pub use operators::OperatorView;
pub use params::{Cursor, Page, Path, PreferredWait, Query, clamped, keep_short, parse_list, parse_one};
pub use problem::Problem;
pub(crate) use routes::Endpoint;
pub use routes::Routes;
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

/// The routes that every function has: `/healthz` and `/readyz`.
pub fn common_routes() -> Routes {
    crate::routes!(health::health, health::readiness)
}

/// Adds what every function has around its routes: 404 and 405 as problems, the edge, and pages of other origins.
#[expect(clippy::needless_pass_by_value, reason = "the router keeps what it is made from")]
pub fn service(routes: Routes, state: AppState) -> Router {
    let around = Arc::new(edge::Surroundings {
        known: routes.known_parameters(),
        dialects: routes.dialects(),
        calls: state.metrics.calls_of(routes.endpoints()),
        state: state.clone(),
    });
    // A single layer: for each call each layer is cloned with all that it holds, and has a future of its own.
    let router = routes
        .into_router(&state)
        .fallback(async || Error::NotFound)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(axum::middleware::from_fn_with_state(around, edge::edge));
    match cors::layer(&state.page.origins) {
        Some(cors) => router.layer(cors),
        None => router,
    }
}
