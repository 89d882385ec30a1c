//! What administrators did.

use axum::Json;
use axum::extract::State;
use relaytrace_domain::{Actor, Faults, Result, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Cursor, Page, Problem, Query, clamped, parse_one};
use relaytrace_store::{LogFilter, LogRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Not before this time.
    #[param(value_type = Option<String>, format = "date-time")]
    from: Option<String>,
    /// Before this time.
    #[param(value_type = Option<String>, format = "date-time")]
    to: Option<String>,
    /// Only of the person with this id.
    actor: Option<String>,
    /// From the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

/// Something that an administrator did.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogView {
    #[schema(value_type = String, format = "uuid")]
    log_id: Uuid,
    at: Timestamp,
    actor: Actor,
    /// What: `agent.registered`, `agent.changed`, `key.registered`, `key.revoked`, `policy.set`, `policy.deleted`,
    /// `channel.set`, `channel.removed`, `agent.push_set`, `agent.push_secret_made`, `agent.push_ended`, `replay.ordered`, `dead_letter.retried`, `dead_letter.discarded`, `request.` and a kind of chain entry. More may come.
    action: String,
    /// The agent, key, policy, replay, dead letter or request.
    subject: String,
    /// Its state before and after.
    #[schema(value_type = Object)]
    details: Value,
}

impl From<LogRecord> for LogView {
    fn from(record: LogRecord) -> Self {
        let actor = Actor { kind: record.actor_kind, id: record.actor_id, name: record.actor_name, acts_for: None };
        let LogRecord { log_id, at, action, subject, details, .. } = record;
        Self { log_id, at: Timestamp(at), actor, action, subject, details }
    }
}

#[derive(Serialize, Deserialize)]
struct LogCursor(Timestamp, Uuid);

impl Cursor for LogCursor {}

/// See what administrators did
///
/// The newest first. Nothing removes from it.
#[utoipa::path(
    get, path = "/v1/admin/log", tag = "admin", security(("admin" = [])), params(LogQuery),
    responses(
        (status = 200, description = "A page of it", body = Page<LogView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Admin(scope): Admin,
    State(state): State<AppState>,
    Query(query): Query<LogQuery>,
) -> Result<Json<Page<LogView>>> {
    let mut faults = Faults::default();
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    let from: Option<Timestamp> = parse_one(&mut faults, "from", query.from.as_deref());
    let to: Option<Timestamp> = parse_one(&mut faults, "to", query.to.as_deref());
    let is_text = |actor: &String| (1..=255).contains(&actor.chars().count()) && !actor.contains('\0');
    if !query.actor.as_ref().is_none_or(is_text) {
        faults.add("/actor", "must be 1 to 255 characters without U+0000");
    }
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.cursor.as_deref().map(LogCursor::decode).transpose()?;
    let filter = LogFilter {
        from: from.map(|Timestamp(at)| at),
        to: to.map(|Timestamp(at)| at),
        actor: query.actor.as_deref(),
        after: after.map(|LogCursor(Timestamp(at), id)| (at, id)),
        limit: limit + 1,
    };
    let found = state.store.admin_log(&scope, &filter).await?;
    Ok(Json(Page::of(found, limit, |last| LogCursor(Timestamp(last.at), last.log_id))))
}
