//! Whether people decide in time.

use axum::Json;
use axum::extract::State;
use chrono::TimeDelta;
use relaytrace_domain::{Error, Faults, Result, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Problem, Query, keep_short, parse_one};
use relaytrace_store::{SLA_REQUESTS, SlaRecord};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Longest period of a report, in days.
const LONGEST_DAYS: i64 = 400;
/// Period of a report that names no beginning, in days.
const DEFAULT_DAYS: i64 = 7;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SlaQuery {
    /// Submitted not before this time; default: seven days before `to`.
    #[param(value_type = Option<String>, format = "date-time")]
    from: Option<String>,
    /// Submitted before this time; default: now. At most 400 days after `from`.
    #[param(value_type = Option<String>, format = "date-time")]
    to: Option<String>,
    /// `priority` (the default), `agent`, `group` (of operators, as assigned) or `operator` (who decided).
    by: Option<String>,
}

/// How the requests of one priority, agent, group or operator were answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlaView {
    /// Which; null: those that nobody in particular was asked, or that no operator decided.
    key: Option<String>,
    /// Submitted in the period: the sum of the following four. A request that several groups were asked counts for each.
    asked: i64,
    /// Decided before their time was over.
    decided_in_time: i64,
    /// Their time was over first.
    timed_out: i64,
    /// Taken back before.
    cancelled: i64,
    /// Not decided yet.
    pending: i64,
    /// Of those that people decided in time, from the submission: the median, between two values their mean; null: there are
    /// none. What a rule decided is left out.
    p50_seconds: Option<f64>,
    /// The same for nine in ten.
    p90_seconds: Option<f64>,
}

impl From<SlaRecord> for SlaView {
    fn from(record: SlaRecord) -> Self {
        let SlaRecord { key, asked, decided_in_time, timed_out, cancelled, pending, p50_seconds, p90_seconds, .. } =
            record;
        Self { key, asked, decided_in_time, timed_out, cancelled, pending, p50_seconds, p90_seconds }
    }
}

/// A report.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlaReport {
    /// The most asked first; 1,000 at the most.
    items: Vec<SlaView>,
}

/// See whether requests are answered in time
///
/// Of the requests that were submitted in a period. A period for which more than 200,000 requests would be looked through is
/// too long: 422.
#[utoipa::path(
    get, path = "/v1/admin/reports/sla", tag = "admin", security(("admin" = [])), params(SlaQuery),
    responses(
        (status = 200, description = "How they were answered", body = SlaReport),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn report(
    Admin(scope): Admin,
    State(state): State<AppState>,
    Query(query): Query<SlaQuery>,
) -> Result<Json<SlaReport>> {
    let mut faults = Faults::default();
    let from: Option<Timestamp> = parse_one(&mut faults, "from", query.from.as_deref());
    let to: Option<Timestamp> = parse_one(&mut faults, "to", query.to.as_deref());
    let by = parse_one(&mut faults, "by", query.by.as_deref()).unwrap_or_default();
    let to = to.map_or_else(|| state.clock.now(), |Timestamp(at)| at);
    let from = from.map_or_else(|| to - TimeDelta::days(DEFAULT_DAYS), |Timestamp(at)| at);
    if from >= to {
        faults.add("/to", "must be after from");
    } else if to - from > TimeDelta::days(LONGEST_DAYS) {
        faults.add("/from", format!("must be at most {LONGEST_DAYS} days before to"));
    }
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let found = state.store.sla(&scope, from, to, by).await?;
    let found = found.ok_or_else(|| {
        let detail = format!("more than {SLA_REQUESTS} requests would be looked through: ask for a shorter period");
        Error::invalid("/from", detail)
    })?;
    let mut items: Vec<_> = found.into_iter().map(SlaView::from).collect();
    keep_short(&mut items);
    Ok(Json(SlaReport { items }))
}
