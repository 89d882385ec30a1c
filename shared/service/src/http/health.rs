//! Whether the process is up, and whether it can serve (contract, "Endpoints").

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Problem;
use crate::state::AppState;
use crate::vitals::History;
use relaytrace_domain::Error;

/// That the process is up.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
}

/// Is the process up?
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It is", body = Health)))]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Readiness.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`.
    status: &'static str,
    /// Postgres answers and takes writes.
    postgres: &'static str,
    /// NATS is connected; reported, not required.
    nats: &'static str,
    /// Why events do not get through to the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    nats_trouble: Option<String>,
    /// Seconds since the last sweep of this process; absent where it does not sweep. Reported, not required.
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep_age_seconds: Option<i64>,
}

/// Can it serve?
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "Postgres answers, takes writes and is no older copy", body = Readiness),
    (status = 503, description = "It does not", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn readiness(State(state): State<AppState>) -> Result<Json<Readiness>, Error> {
    let (postgres, nats) = tokio::join!(state.can_write(), state.events.is_connected());
    postgres.map_err(Error::into_unavailable)?;
    let now = state.clock.now();
    if !state.vitals.can_write(now) {
        return Err(Error::Unavailable(anyhow::anyhow!("the database's disk is full")));
    }
    if state.vitals.history() == History::Behind {
        return Err(Error::Unavailable(anyhow::anyhow!("the database is an older copy: declare the restore")));
    }
    Ok(Json(Readiness {
        status: "ready",
        postgres: "connected",
        nats: if nats { "connected" } else { "not connected" },
        nats_trouble: state.events.trouble(),
        sweep_age_seconds: state.vitals.sweep_age(now).map(|age| age.num_seconds()),
    }))
}
