//! `admin`: administrators register agents and keys, set timeout policies, see what is stuck and put it right, and
//! export chains. Internal: not on the public API.

mod agents;
mod chain;
mod dead_letters;
mod disposition;
mod policies;
mod stale;

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
        .routes(routes!(policies::list, policies::set))
        .routes(routes!(disposition::dispose))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::retry))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(stale::list))
}
