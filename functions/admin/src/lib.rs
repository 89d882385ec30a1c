//! `admin`: administrators register agents and keys and export chains. Internal: not on the public API.

mod agents;
mod chain;

use relaytrace::AppState;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this function.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(agents::list, agents::register))
        .routes(routes!(agents::show, agents::change))
        .routes(routes!(agents::register_key))
        .routes(routes!(agents::revoke_key))
        .routes(routes!(chain::export))
}
